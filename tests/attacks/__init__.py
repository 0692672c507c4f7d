"""Attacks on a running service, each naming what it shows."""
