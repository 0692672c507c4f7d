"""Credentials: identifiers and passwords as people type them, hashes, and the tokens that stand for a session."""
