"""What the book adds up to: pure folds over events, and the read models that hold their results."""
