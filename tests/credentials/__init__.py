"""Identifiers, passwords and tokens."""
