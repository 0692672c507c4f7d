"""The gate, over a real book: what happens before the writer."""
