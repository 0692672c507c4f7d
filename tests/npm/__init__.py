"""The published client of react-auth, unmodified, against a running service."""
