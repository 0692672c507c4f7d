"""The command line, run in this process where that shows as much, in one of its own where it does not."""
