"""Properties: what holds whatever happens."""
