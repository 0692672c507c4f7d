"""The doors: one module for each contract, messages in and messages out, with no I/O inside."""
