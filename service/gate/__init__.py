"""The gate: everything that happens before the writer, the same for every door."""
