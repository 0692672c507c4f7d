"""The route protocol, versions 1 and 2: a packet in, a request or an error packet out; an outcome in, a packet out.

The contract as it is served, with what we decided where it is silent, is docs/route-protocol.md.
"""

from __future__ import annotations

from typing import Final

from msgspec import UNSET, MsgspecError, Raw, Struct, UnsetType, ValidationError, json, structs

from events.catalogue import Level, Moment
from service.doors.route_calls import V2, Call, Edition, missing
from service.errors import (
    ROUTE_ERROR_CODE,
    FieldError,
    InvalidFields,
    Malformed,
    NoSuchRoute,
    Refused,
    Throttled,
)
from service.fields import Id
from service.json_depth import LIMIT, too_deep

__all__ = ["Account", "NotARequest", "Request", "read"]

SERVER_ERROR: Final = 500


class Account(Struct, frozen=True):
    """The user as both versions show it; timestamps are ISO 8601 in UTC."""

    id: Id
    username: str
    nickname: str
    level: Level
    active: bool
    created_at: Moment
    last_contact: Moment


class Request(Struct, frozen=True):
    """A request that is well-formed. Each method is a reply, ready to be sent.

    `receipt` is the client's own, byte for byte, where there was one.
    """

    call: Call
    route: str
    receipt: Raw | UnsetType
    edition: Edition

    def logged_in(self, session_key: str, user: Account, device_key: str | UnsetType = UNSET) -> str:
        """The connection is authenticated now: the key of the session, whose it is, and after a login the device's."""
        return self._succeeded(_Session(session_key, user, device_key))

    def logged_out(self) -> str:
        """The session is over."""
        return self._succeeded(_LOGGED_OUT)

    def done(self) -> str:
        """It was done, and there is nothing more to say."""
        return self._succeeded(UNSET)

    def refused(self, refusal: Refused) -> str:
        """It was not done."""
        return _error_packet(self.route, self.receipt, refusal)

    def _succeeded(self, data: Struct | UnsetType) -> str:
        return _encode(_Packet(self.route, self.receipt, self.edition.success, data)).decode()


class NotARequest(Struct, frozen=True):
    """What answers a message that makes no request: the error packet, and the refusal's word for machines."""

    packet: str
    code: str


def read(message: str, edition: Edition) -> Request | NotARequest:
    """The request that a message makes, or what answers a message that makes none."""
    data = message.encode()
    if too_deep(data):
        return _no_request(None, UNSET, Malformed(f"The packet is nested deeper than {LIMIT} levels."))
    try:
        packet = _decode_packet(data)
    except ValidationError:
        return _no_request(None, UNSET, Malformed("The packet is not a JSON object."))
    except MsgspecError:
        return _no_request(None, UNSET, Malformed("The packet is not valid JSON."))
    if packet.route is UNSET:
        return _malformed(None, packet, missing("route"))
    try:
        route = _decode_text(packet.route)
    except MsgspecError:
        return _malformed(None, packet, _not_text("route"))
    kind = edition.routes.get(route)
    if kind is None:
        return _no_request(route, packet.receipt, NoSuchRoute())
    if not kind.takes_data:
        return Request(kind(), route, packet.receipt, edition)
    if packet.data is UNSET:
        return _malformed(route, packet, missing("data"))
    try:
        call = _DECODERS[kind](packet.data)
    except MsgspecError:
        return _malformed(route, packet, *_faults(kind, packet.data))
    if faults := call.faults():
        return _malformed(route, packet, *faults)
    return Request(call, route, packet.receipt, edition)


class _Envelope(Struct, frozen=True):
    """A packet as it came, each part still as it was typed. Keys that are not known hold JSON and are passed over."""

    route: Raw | UnsetType = UNSET
    receipt: Raw | UnsetType = UNSET
    data: Raw | UnsetType = UNSET


class _Packet(Struct, frozen=True):
    """A packet as it goes, its keys in the contract's order."""

    route: str | None
    receipt: Raw | UnsetType
    error: bool | UnsetType
    data: Struct | UnsetType


class _Session(Struct, frozen=True):
    session_key: str
    user: Account
    device_key: str | UnsetType


class _LoggedOut(Struct, frozen=True):
    loggedout: bool


class _Error(Struct, frozen=True):
    error_code: int
    error_message: str
    error_messages: tuple[FieldError, ...] | UnsetType
    retry_after: int | UnsetType


_LOGGED_OUT: Final = _LoggedOut(loggedout=True)
_encode: Final = json.Encoder().encode
_decode_packet: Final = json.Decoder(_Envelope).decode
_decode_text: Final = json.Decoder(str).decode
_decode_fields: Final = json.Decoder(dict[str, Raw]).decode
_DECODERS: Final = {kind: json.Decoder(kind).decode for kind in V2.routes.values()}


def _faults(kind: type[Call], data: Raw) -> list[FieldError]:
    """Every field of the data that is missing or of a wrong type."""
    try:
        given = _decode_fields(data)
    except MsgspecError:
        return [FieldError("data", "`data` must be an object.")]
    faults = []
    for field in structs.fields(kind):
        value = given.get(field.name)
        if value is None and field.required:
            faults.append(missing(field.name))
        elif value is not None and not bytes(value).startswith(b'"'):
            faults.append(_not_text(field.name))
    # Of a key that stands twice the last one counts, but the first one must be of its type as well.
    return faults or [FieldError("data", "`data` holds a key twice, and not with a string each time.")]


def _not_text(field: str) -> FieldError:
    return FieldError(field, f"`{field}` must be a string.")


def _malformed(route: str | None, packet: _Envelope, *faults: FieldError) -> NotARequest:
    what = faults[0].message if len(faults) == 1 else "Some fields are missing or of a wrong type."
    return _no_request(route, packet.receipt, Malformed(what), faults)


def _no_request(
    route: str | None, receipt: Raw | UnsetType, refusal: Refused, faults: tuple[FieldError, ...] = ()
) -> NotARequest:
    return NotARequest(_error_packet(route, receipt, refusal, faults), refusal.code)


def _error_packet(
    route: str | None, receipt: Raw | UnsetType, refusal: Refused, faults: tuple[FieldError, ...] = ()
) -> str:
    error = _Error(
        error_code=_error_code(refusal),
        error_message=refusal.message,
        error_messages=(refusal.errors if isinstance(refusal, InvalidFields) else faults) or UNSET,
        retry_after=refusal.retry_after if isinstance(refusal, Throttled) else UNSET,
    )
    return _encode(_Packet(route, receipt, error=True, data=error)).decode()


def _error_code(refusal: Refused) -> int:
    for kind in type(refusal).__mro__:
        if kind in ROUTE_ERROR_CODE:
            return ROUTE_ERROR_CODE[kind]
    return SERVER_ERROR
