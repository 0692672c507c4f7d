"""The book: events, their catalogue and canonical bytes, and the append-only logs that keep them."""
