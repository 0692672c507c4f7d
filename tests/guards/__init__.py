"""The tests of the edge: hostile and honest clients on real sockets."""
