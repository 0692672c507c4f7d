"""/openapi.json: valid, whole, the same everywhere, and of one mind with what the routes do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openapi_schema_validator import OAS31Validator, oas31_format_checker
from openapi_spec_validator import OpenAPIV31SpecValidator

from service.credentials.identifiers import NICKNAME_LENGTHS, SHORTEST_PASSWORD, USERNAME_LENGTHS
from service.errors import HTTP_STATUS, Forbidden, Malformed, NotFound, TooLarge, Unauthenticated, UnsupportedMedia
from service.web.app import Doors
from service.web.openapi.document import _shapes
from service.web.openapi.responses import responses
from service.web.openapi.schemas import Schemas
from service.web.principals import Needs, Route
from service.web.queries import LARGEST
from tests.web.serving import Web, web

Document = dict[str, Any]


async def told(doors: Web) -> Document:
    answer = await doors.get("/openapi.json")
    assert answer.status_code == 200
    found: Document = answer.json()
    return found


def behind(document: Document, part: Document) -> Document:
    """The part of the document, behind its reference where it is one."""
    while "$ref" in part:
        found: Any = document
        for name in part["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        part = found
    return part


def operations(document: Document) -> Iterator[tuple[str, Document]]:
    """Each operation under the name that its route has."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def name_of(route: Route) -> str:
    return re.sub(r"<(\w+)>", r"{\1}", route.endpoint)


def routes_of(app: Doors) -> dict[str, Route]:
    return {name_of(route): route for route in app._routes.values()}


async def test_the_document_is_valid_and_tells_of_every_route_and_of_nothing_else(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        document = await told(doors)
        assert document["openapi"].startswith("3.1.")
        assert [str(error) for error in OpenAPIV31SpecValidator(document).iter_errors()] == []
        assert {name for name, _ in operations(document)} == routes_of(doors.app).keys()
        assert "GET /openapi.json" in routes_of(doors.app)


async def test_every_operation_has_a_name_that_lasts_and_says_what_it_takes_and_answers(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        document, routes = await told(doors), routes_of(doors.app)
        names = [operation["operationId"] for _, operation in operations(document)]
        assert len(set(names)) == len(names)
        for name, operation in operations(document):
            method, _, path = name.partition(" ")
            # Of nothing but method and address.
            assert operation["operationId"] == "_".join([method.lower(), *re.findall(r"\w+", path)]).replace("-", "_")
            assert re.fullmatch(r"[A-Z][^.]{2,79}", operation["summary"]), name
            answers = {status: one for status, one in operation["responses"].items() if status < "4"}
            assert answers, name
            for status, answer in answers.items():
                assert ("content" in answer) == (status not in {"204", "304"}), f"{name} {status}"
            takes = routes[name].operation.body is not None
            assert ("requestBody" in operation) == takes, name
            without = {"POST /api/logout", "POST /api/authenticate", "POST /api/token"}
            assert takes or method in {"GET", "DELETE"} or name in without
            parts = {one["name"] for one in operation.get("parameters", ()) if one["in"] == "path"}
            assert parts == set(re.findall(r"\{(\w+)\}", path)), name


async def test_refusals_follow_from_what_a_route_is(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        document, routes = await told(doors), routes_of(doors.app)
        for name, operation in operations(document):
            route = routes[name]
            given = {int(status) for status in operation["responses"]}
            expected = {500, 503, 400, 408, 413, 431}
            if route.needs is not Needs.NOBODY:
                expected.add(HTTP_STATUS[Unauthenticated])
            if route.needs is Needs.ADMIN or route.sets_cookie:
                expected.add(HTTP_STATUS[Forbidden])
            if route.operation.body is not None:
                expected |= {HTTP_STATUS[kind] for kind in (Malformed, TooLarge, UnsupportedMedia)}
            if "<" in route.path:
                expected.add(HTTP_STATUS[NotFound])
            assert expected <= given, name
            security = {scheme for one in operation["security"] for scheme in one}
            if route.needs is not Needs.NOBODY:
                assert security == {"bearer", "cookie"}, name
                assert all(
                    levels == [route.needs.name.lower()] for one in operation["security"] for levels in one.values()
                )


async def test_what_is_told_once_for_many_routes_is_what_each_of_them_says(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        document, routes = await told(doors), routes_of(doors.app)
        schemas = Schemas(shape for route in routes.values() for shape in _shapes(route))
        for name, operation in operations(document):
            said = {str(status): one.told() for status, one in responses(routes[name], schemas).items()}
            assert {status: behind(document, one) for status, one in operation["responses"].items()} == said, name


async def test_bounds_stand_where_the_service_holds_them(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        document = await told(doors)
        schemas = document["components"]["schemas"]
        registration = schemas["Registration"]["properties"]
        for field, (least, most) in {"username": USERNAME_LENGTHS, "nickname": NICKNAME_LENGTHS}.items():
            assert (registration[field]["minLength"], registration[field]["maxLength"]) == (least, most)
        assert registration["password"]["minLength"] == SHORTEST_PASSWORD
        assert schemas["IntrospectionRequest"]["properties"]["token"]["minLength"] == 1
        by_name = {
            (name, one["name"]): one["schema"]
            for name, operation in operations(document)
            for one in operation.get("parameters", ())
        }
        whole = {"type": "integer", "maximum": LARGEST}
        for name in routes_of(doors.app):
            for part in re.findall(r"\{(\w*(?:id|position))\}", name):
                assert by_name[name, part] == {**whole, "minimum": 1}, name
        assert by_name["GET /admin/api/events", "limit"] == {"type": "integer", "minimum": 1, "maximum": 1000}
        assert by_name["GET /admin/api/events", "order"] == {"enum": ["asc", "desc"]}
        assert re.fullmatch(by_name["GET /admin/api/events", "stream"]["pattern"], "user-17")
        assert not re.fullmatch(by_name["GET /admin/api/events", "stream"]["pattern"], "user-0")
        names = [one.name for one in doors.house.book.projections]
        assert sorted(by_name["GET /admin/api/projections/{name}", "name"]["enum"]) == sorted(names)


async def test_headers_that_are_passed_over_may_be_any_text(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        document = await told(doors)
        await doors.register()
        bearer = {"Authorization": f"Bearer {await doors.log_in()}"}
        bounded = set()
        for name, operation in operations(document):
            method, _, path = name.partition(" ")
            for header in (one for one in operation.get("parameters", ()) if one["in"] == "header"):
                if header["schema"] != {"type": "string"}:
                    bounded.add((name, header["name"]))
                    continue
                for text in ("", "no tag", "GeT", '"', "*, *"):
                    answer = await doors.client.request(method, path, headers={**bearer, header["name"]: text})
                    assert answer.is_success, f"{name} with {header['name']}: {text}"
        assert bounded == {("GET /admin/api/events/follow", "Last-Event-ID")}


async def test_each_address_takes_the_parameters_and_fields_that_are_told(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        document, token = await told(doors), await doors.admin()
        parts = {"name": "users", "key": "1", "position": "1", "id": "1", "session_id": "1"}
        held = set()
        for name, operation in operations(document):
            method, _, path = name.partition(" ")
            if not path.startswith(("/admin/api", "/api/sessions")):
                continue
            answer = await doors.ask(method, f"{path.format(**parts)}?surprise=1", token=token)
            assert answer.status_code == 400, name
            known = [one["name"] for one in operation.get("parameters", ()) if one["in"] == "query"]
            sentence = f"This address takes the parameters {', '.join(known)}." if known else "No parameter here."
            assert answer.json()["error"]["message"] == sentence, name
            held.add(name)
        assert len(held) > 10
        bodies = 0
        for name, operation in operations(document):
            method, _, path = name.partition(" ")
            schema = behind(
                document,
                operation.get("requestBody", {"content": {}})["content"].get("application/json", {}).get("schema", {}),
            )
            if schema.get("additionalProperties") is not False:
                continue
            answer = await doors.ask(method, path.format(**parts), {"surprise": 1}, token=token)
            takes = ", ".join(schema["properties"]) or "none"
            sentence = f"The body has a field that is not known here; it takes {takes}."
            assert (answer.status_code, answer.json()["error"]["message"]) == (400, sentence), name
            bodies += 1
        assert bodies >= 6


async def test_every_example_is_what_its_schema_says(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        document = await told(doors)
        examples = 0
        responses = [one for _, operation in operations(document) for one in operation["responses"].values()]
        for response in (behind(document, one) for one in responses):
            for content in response.get("content", {}).values():
                schema = {**content["schema"], "components": document["components"]}
                validator = OAS31Validator(schema, format_checker=oas31_format_checker)
                for code, example in content.get("examples", {}).items():
                    assert [error.message for error in validator.iter_errors(example["value"])] == [], code
                    examples += 1
        assert examples > 100


async def test_what_is_secret_is_told_to_be(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        schemas = (await told(doors))["components"]["schemas"]
        found = {
            (name, field): schema
            for name, one in schemas.items()
            for field, schema in one.get("properties", {}).items()
            if "password" in field
            or field in {"token", "access_token", "at"}
            or (name, field) == ("Authenticated", "session")
        }
        secret = {key: schema for key, schema in found.items() if key[1] not in {"password_hash", "password_version"}}
        sent = {key for key, schema in secret.items() if schema.get("writeOnly")}
        assert {key for key, schema in secret.items() if schema.get("format") == "password"} - sent == {
            ("Opened", "token"),
            ("TokenAnswer", "access_token"),
            ("TokenIssued", "at"),
            ("Authenticated", "session"),
        }
        assert sent == {
            ("Registration", "password"),
            ("Login", "password"),
            ("ProfileChange", "old_password"),
            ("ProfileChange", "new_password"),
            ("Credentials", "password"),
            ("Authenticate", "password"),
            ("IntrospectionRequest", "token"),
        }
        for key, schema in found.items():
            if key[1] == "password_hash":
                assert schema["enum"] == ["(redacted)"], key


async def test_the_document_is_the_same_for_every_installation(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    async with web(tmp_path) as doors, web(tmp_path / "other", page=7, body_bytes=1_000, development=True) as others:
        one, other = await doors.get("/openapi.json"), await others.get("/openapi.json")
        assert one.content == other.content
        assert one.headers["ETag"] == other.headers["ETag"]
        document = one.json()
        assert document["servers"] == [{"url": "/"}]
        assert document["info"].keys() == {"title", "version", "description"}
        for detail in ("127.0.0.1", "localhost", str(doors.port), str(tmp_path)):
            assert detail not in one.text, detail


async def test_the_document_is_kept_and_asked_about_again(tmp_path: Path) -> None:
    async with web(tmp_path) as doors:
        answer = await doors.get("/openapi.json")
        assert (answer.headers["Cache-Control"], answer.headers["Content-Type"]) == ("no-cache", "application/json")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        tag = answer.headers["ETag"]
        for known, status in {
            tag: 304,
            f"W/{tag}": 304,
            f'"other", {tag}': 304,
            "*": 304,
            '"other"': 200,
            tag.strip('"') + '"': 200,
            "\xff": 200,
            "": 200,
        }.items():
            again = await doors.client.get("/openapi.json", headers=[(b"If-None-Match", known.encode("latin-1"))])
            assert (again.status_code, again.content) == (status, b"" if status == 304 else answer.content), known
            assert (again.headers["ETag"], again.headers["Cache-Control"]) == (tag, "no-cache")
        head = await doors.client.head("/openapi.json")
        assert (head.status_code, head.content, head.headers["ETag"]) == (200, b"", tag)
        assert head.headers["Content-Length"] == str(len(answer.content))


@pytest.mark.parametrize("kind", ["UserRegisteredEvent", "SessionOpenedEvent", "GuestCreatedEvent", "User", "Session"])
async def test_what_an_admin_sees_is_told_field_by_field(tmp_path: Path, kind: str) -> None:
    async with web(tmp_path) as doors:
        schema = (await told(doors))["components"]["schemas"][kind]
        assert set(schema["required"]) == schema["properties"].keys()
        sealed = {"anyOf": [{"type": "string"}, {"$ref": "#/components/schemas/Unopened"}, {"type": "null"}]}
        secrets = {name: one for name, one in schema["properties"].items() if name in {"password_hash", "token_digest"}}
        assert len(secrets) == 1
        assert all(one == {"enum": ["(redacted)"]} for one in secrets.values())
        if "address" in schema["properties"]:
            assert json.dumps(schema["properties"]["address"]) == json.dumps(sealed)
        assert "Sealed" not in json.dumps(schema)
