"""The conformance suites: black box, over real sockets, against a running `gatebook serve`."""
