"""The tests of the HTTP doors, inside one process."""
