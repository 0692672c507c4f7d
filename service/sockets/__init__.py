"""The socket halves of the doors: conversations on trio-websocket connections."""
