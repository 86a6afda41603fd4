"""Language models: one for each profile, its connections, its failures."""
