"""Quart-Trio's way of answering a request, without the nursery and two tasks that it spends on each.

Those tasks read the body while the handler runs, and cancel the handler when the client leaves. Under `serve_http` the
body is complete before the application begins, and the guard itself cancels a request whose client has gone.
"""

from __future__ import annotations

import trio
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable
from quart.wrappers import Response
from quart_trio.asgi import TrioASGIHTTPConnection


class WholeRequestConnection(TrioASGIHTTPConnection):
    """For `QuartTrio.asgi_http_class`. Only under `serve_http`: elsewhere a request may arrive in pieces."""

    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Answer one request."""
        request = self._create_request_from_scope(send)
        message = await receive()
        if message["type"] != "http.request":
            return
        request.body.append(message["body"])
        request.body.set_complete()
        response = await self.app.handle_request(request)
        timeout = self.app.config["RESPONSE_TIMEOUT"]
        if isinstance(response, Response) and response.timeout != Ellipsis:
            timeout = response.timeout
        with trio.move_on_after(float("inf") if timeout is None else timeout):
            await self._send_response(send, response)
