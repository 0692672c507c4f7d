"""Tests of the doors: messages in, messages out, no server."""
