"""Every command, given what stands in the book."""
