"""The commands that jobs call."""
