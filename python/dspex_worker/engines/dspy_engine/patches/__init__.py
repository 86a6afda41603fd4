"""Parts of DSPy that are replaced, at its own extension points where it has them."""
