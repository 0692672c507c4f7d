"""The authentication service: decisions, the writer, and the doors people come through."""
