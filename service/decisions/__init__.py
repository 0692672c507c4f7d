"""Decisions: what somebody asks for, and the events that follow. Pure: no clock, no randomness, no hashing, no I/O.

`now`, and whether a password matched, come in as data. A decision gives plain events, or refuses with an error of
`service.errors`; then nothing of it is left behind.
"""
