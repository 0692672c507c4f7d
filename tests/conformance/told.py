"""What /openapi.json tells, and whether a service keeps to it: every answer, and every request that it carries out.

A client must pass over fields that it does not know, so the document leaves objects open. Held against it is the very
service that tells it: here objects are closed, and what is not told is at fault.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl, unquote

import httpx
import pytest
from openapi_schema_validator import OAS31Validator, oas31_format_checker

PATH = "/openapi.json"
JSON = "application/json"
EVENT_STREAM = "text/event-stream"


class Told:
    """A document, and what is held against it."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self._components = _closed(document["components"])
        # What is spelled out stands before what a part of the path may be.
        self._paths = [
            (re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(template))), template)
            for template in sorted(document["paths"], key=lambda template: template.count("{"))
        ]

    def hold(self, response: httpx.Response, *, streamed: bool = False) -> None:
        """Fails where the answer is not told, or the request should not have been carried out."""
        request = response.request
        path, _, query = request.url.raw_path.decode("ascii").partition("?")
        what = f"{request.method} {request.url.raw_path.decode('ascii')}: {response.status_code}"
        template = next((template for pattern, template in self._paths if pattern.fullmatch(path)), None)
        if template is None:
            self._hold_elsewhere(response, 404, what)
            return
        methods = self.document["paths"][template]
        method = "get" if request.method == "HEAD" else request.method.lower()
        if method not in methods:
            self._hold_elsewhere(response, 204 if request.method == "OPTIONS" else 405, what)
            allowed = {name.upper() for name in methods} | {"OPTIONS"} | ({"HEAD"} if "get" in methods else set())
            if response.status_code in {204, 405}:
                assert set(response.headers["Allow"].split(", ")) == allowed, what
            return
        operation = methods[method]
        assert str(response.status_code) in operation["responses"], f"{what} is not told: {response.text[:500]}"
        told = self.resolved(operation["responses"][str(response.status_code)])
        self._hold_headers(response, told, what)
        if not streamed:
            self._hold_body(response, told.get("content"), what)
        if response.is_success:
            self._hold_request(request, operation, unquote(path), template, query, what)

    def hold_events(self, stream: str, template: str) -> None:
        """Fails where an event of a stream is not what that address tells of one."""
        schema = self.document["paths"][template]["get"]["responses"]["200"]["content"][JSON]["schema"]
        for line in stream.split("\n"):
            name, _, data = line.partition(": ")
            if name == "data":
                self._valid(json.loads(data), schema, f"an event, as at {template}")

    def resolved(self, part: dict[str, Any]) -> dict[str, Any]:
        """The part of the document, behind its reference where it is one."""
        while "$ref" in part:
            found: Any = self.document
            for name in part["$ref"].removeprefix("#/").split("/"):
                found = found[name]
            part = found
        return part

    def _hold_elsewhere(self, response: httpx.Response, status: int, what: str) -> None:
        """Where no operation is: that status, or what the listener says to whatever is no request."""
        early = {400, 408, 413, 431, 501, 503, 505}
        assert response.status_code in {status, *early}, f"{what} where {status} is told: {response.text[:500]}"
        if response.status_code != 204 and response.request.method != "HEAD" and response.content:
            self._valid(response.json(), {"$ref": "#/components/schemas/ProblemAnswer"}, what)

    def _hold_headers(self, response: httpx.Response, told: dict[str, Any], what: str) -> None:
        for name, header in self.document["components"]["headers"].items():
            if name not in response.headers:
                continue
            assert name in told.get("headers", {}), f"{what} with the header {name}, which is not told"
            value, schema = response.headers[name], header["schema"]
            number = schema["type"] == "integer" and value.isdigit()
            self._valid(int(value) if number else value, schema, f"{what}, {name}")

    def _hold_body(self, response: httpx.Response, content: dict[str, Any] | None, what: str) -> None:
        if response.request.method == "HEAD" or content is None:
            assert response.content == b"", f"{what} with a body, which is not told"
            return
        if response.status_code == 503 and not response.content:
            assert response.headers["Connection"] == "close"  # too many connections: no request was read
            return
        kind = response.headers["Content-Type"].partition(";")[0]
        assert kind in content, f"{what} of the type {kind}, where {', '.join(content)} is told"
        body = response.json() if kind == JSON or kind.endswith("+json") else response.text
        self._valid(body, content[kind]["schema"], what)
        if "examples" in content[kind] and isinstance(body, dict) and isinstance(body.get("error"), dict):
            codes = {example["value"]["error"]["code"] for example in content[kind]["examples"].values()}
            assert body["error"]["code"] in codes, f"{what} {body['error']['code']}, where {', '.join(codes)} is told"

    def _hold_request(
        self, request: httpx.Request, operation: dict[str, Any], path: str, template: str, query: str, what: str
    ) -> None:
        parts = dict(zip(re.findall(r"\{(\w+)\}", template), _parts(path, template), strict=True))
        given = {"path": parts, "query": dict(parse_qsl(query, keep_blank_values=True))}
        told = {(one["in"], one["name"]): one["schema"] for one in operation.get("parameters", ())}
        for place, values in given.items():
            for name, value in values.items():
                assert (place, name) in told, f"{what} carried out with {name}, which is not told"
                schema = told[place, name]
                kinds = {one.get("type") for one in schema.get("anyOf", [schema])}
                number = "integer" in kinds and value.isdigit()
                self._valid(int(value) if number else value, schema, f"{what} carried out with {name}")
        takes = operation.get("requestBody")
        # What is sent as an iterator is gone; a body that is not asked for is passed over.
        if takes is None or not hasattr(request, "_content"):
            return
        if not request.content:
            assert not takes["required"], f"{what} carried out without its body"
            return
        kind = request.headers["Content-Type"].partition(";")[0].strip().lower()
        assert kind in takes["content"], f"{what} carried out with a body of the type {kind}"
        body = json.loads(request.content) if kind == JSON else dict(parse_qsl(request.content.decode(), True))
        self._valid(body, takes["content"][kind]["schema"], f"{what} carried out with a body", closed=False)

    def _valid(self, value: Any, schema: dict[str, Any], what: str, *, closed: bool = True) -> None:
        components = self._components if closed else self.document["components"]
        validator = OAS31Validator({**schema, "components": components}, format_checker=oas31_format_checker)
        errors = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]
        assert errors == [], f"{what}, outside of what is told: {errors}"


@contextmanager
def held(base: str) -> Iterator[None]:
    """Has every answer that httpx gets from that address held against the document that stands there."""
    with httpx.Client(base_url=base, trust_env=False) as client:
        told = Told(client.get(PATH).raise_for_status().json())
    address = httpx.URL(base).netloc
    send, send_async = httpx.Client.send, httpx.AsyncClient.send

    def hold(response: httpx.Response, *, streamed: bool) -> httpx.Response:
        if response.request.url.netloc == address:
            told.hold(response, streamed=streamed)
        return response

    def sent(self: httpx.Client, request: httpx.Request, *, stream: bool = False, **how: Any) -> httpx.Response:
        return hold(send(self, request, stream=stream, **how), streamed=stream)

    async def sent_async(
        self: httpx.AsyncClient, request: httpx.Request, *, stream: bool = False, **how: Any
    ) -> httpx.Response:
        return hold(await send_async(self, request, stream=stream, **how), streamed=stream)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpx.Client, "send", sent)
        patch.setattr(httpx.AsyncClient, "send", sent_async)
        yield


async def holding(client: httpx.AsyncClient) -> dict[str, list[Callable[[httpx.Response], Awaitable[None]]]]:
    """Hooks for a client, by which each of its answers is held against the document of the service that it asks."""
    told = Told((await client.get(PATH)).raise_for_status().json())

    async def hold(response: httpx.Response) -> None:
        streamed = response.headers.get("Content-Type") == EVENT_STREAM
        if not streamed:
            await response.aread()
        told.hold(response, streamed=streamed)

    return {"response": [hold]}


def _parts(path: str, template: str) -> list[str]:
    found = re.fullmatch(re.sub(r"\\\{\w+\\\}", "([^/]+)", re.escape(template)), path)
    assert found is not None
    return [*found.groups()]


def _closed(part: Any) -> Any:
    """The same with every object closed whose fields are told."""
    if isinstance(part, list):
        return [_closed(one) for one in part]
    if not isinstance(part, dict):
        return part
    closed = {name: _closed(one) for name, one in part.items()}
    if closed.get("type") == "object" and isinstance(closed.get("properties"), dict):
        closed.setdefault("additionalProperties", False)
    return closed
