"""Request bodies: JSON and nothing else, small, shallow, each name once, and no field that nobody asked for."""

from __future__ import annotations

from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct
from quart import Request

from service.doors.forms import JSON_TYPE, is_media, refuse_repeated_names
from service.errors import Malformed, TooLarge, UnsupportedMedia
from service.json_depth import too_deep

Message = TypeVar("Message", bound=Struct)

_decoders: Final[dict[type[Struct], msgspec.json.Decoder[Any]]] = {}


async def body_of(request: Request, message: type[Message], most_bytes: int) -> Message:
    """The request's body as that message.

    Raises UnsupportedMedia, TooLarge, or Malformed, whose sentence repeats nothing of the body.
    """
    if not is_media(request.headers.getlist("Content-Type"), JSON_TYPE):
        raise UnsupportedMedia
    data: bytes = await request.body
    # The listener bounds bodies too, and earlier; this holds under any other server.
    if len(data) > most_bytes:
        raise TooLarge
    return decoded(data, message)


async def optional_body_of(request: Request, message: type[Message], most_bytes: int) -> Message:
    """The same for a message that may be absent: no body at all is the message that says nothing."""
    return await body_of(request, message, most_bytes) if await request.body else message()


def decoded(data: bytes, message: type[Message]) -> Message:
    """The bytes as that message; Malformed says why they are not one."""
    if too_deep(data):
        raise Malformed("The body is nested too deeply.")
    decoder = _decoders.get(message)
    if decoder is None:
        decoder = _decoders[message] = msgspec.json.Decoder(message)
    try:
        body: Message = decoder.decode(data)
    except msgspec.ValidationError as error:
        raise Malformed(_sentence(str(error), message)) from None
    except (msgspec.DecodeError, ValueError, RecursionError):
        # What a decoder says may quote the body, and the body may hold a password.
        raise Malformed("The body is not JSON in UTF-8.") from None
    refuse_repeated_names(data)
    return body


def _sentence(said: str, message: type[Struct]) -> str:
    """Msgspec's words about a message of ours, of which all but two name our fields and types alone."""
    if "unknown field" in said:
        takes = ", ".join(message.__struct_fields__) or "none"
        return f"The body has a field that is not known here; it takes {takes}."
    if said.startswith("Invalid enum value"):
        said = f"Not one of the values that are allowed - at {said.rpartition(' - at ')[2]}"
    return f"{said.replace('`', '')}."
