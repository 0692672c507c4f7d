"""The tests of gatebook."""
