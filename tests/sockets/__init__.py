"""Tests of the doors' socket halves, inside one process: where a black box cannot bring about what is tested."""
