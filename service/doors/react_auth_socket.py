"""The socket half of react-auth: a message in, bare or enveloped, and a request out; an outcome in, a reply out.

The contract as it is served, with what we decided where it is silent, is docs/react-auth.md; the HTTP half is
`service.doors.react_auth`.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec import UNSET, MsgspecError, Raw, Struct, UnsetType, json

from service.errors import Malformed, NoSuchRoute, Refused
from service.json_depth import too_deep

__all__ = ["Call", "Close", "Envelope", "NotARequest", "Request", "Resume", "notification", "read"]

RESUME: Final = "fantaptik/react-auth/socket/resume"
CLOSE: Final = "fantaptik/react-auth/close"
"""What ends a session, and what tells that one is over: the contract has one type for both."""


class Resume(Struct, frozen=True):
    """Hold this connection to a session. `user` is what the client believes of whose it is."""

    session: str
    user: Raw | UnsetType = UNSET

    def believes(self, user_id: int) -> bool:
        """Whether nothing in `user` speaks against that account.

        A client may leave out `user` or its `id`. An `id` that is there is this very integer, as JSON writes it.
        """
        if self.user is UNSET:
            return True
        try:
            claimed = _decode_user(self.user).id
        except MsgspecError:
            return False
        return claimed is UNSET or bytes(claimed) == b"%d" % user_id

    def __repr__(self) -> str:
        return "Resume(…)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []


class Close(Struct, frozen=True):
    """End a session. What stands under `user` is passed over: the session says whose it is."""

    session: str

    def __repr__(self) -> str:
        return "Close(…)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []


Call = Resume | Close


class Envelope(Struct, frozen=True):
    """How a message came, and so how its reply goes: bare or enveloped, with its `id`, byte for byte, or without."""

    enveloped: bool
    id: Raw | UnsetType = UNSET

    def reply(self, *, success: bool) -> str:
        """The reply, ready to be sent."""
        reply = _Enveloped(self.id, _Result(success)) if self.enveloped else _Bare(self.id, success)
        return _encode(reply).decode()


class Request(Struct, frozen=True):
    """A message that asks for something."""

    envelope: Envelope
    call: Call


class NotARequest(Struct, frozen=True):
    """A message that asks for nothing that this door knows, and why."""

    envelope: Envelope
    refusal: Refused


def read(message: str, *, enveloped: bool) -> Request | NotARequest:
    """What a message asks for. `enveloped` says how the connection speaks; what is no object at all is answered so."""
    data = message.encode()
    unread = Envelope(enveloped)
    if too_deep(data):
        return NotARequest(unread, Malformed())
    try:
        top = _decode_message(data)
    except MsgspecError:
        return NotARequest(unread, Malformed())
    inner = _inner(top)
    envelope = Envelope(inner is not None, top.id)
    said = inner or top
    try:
        kind = _decode_text(said.type) if isinstance(said.type, Raw) else None
        session = _decode_text(said.session) if isinstance(said.session, Raw) else None
    except MsgspecError:
        return NotARequest(envelope, Malformed())
    if kind not in {RESUME, CLOSE}:
        return NotARequest(envelope, Malformed() if kind is None else NoSuchRoute())
    if session is None:
        return NotARequest(envelope, Malformed())
    return Request(envelope, Resume(session, said.user) if kind == RESUME else Close(session))


def notification(*, enveloped: bool) -> str:
    """The message that tells that the session is over. It has no id: it answers nothing."""
    return NOTIFICATION_ENVELOPED if enveloped else NOTIFICATION


class _Message(Struct, frozen=True):
    """A message as it came, each part still as it was typed. Keys that are not known hold JSON and are passed over."""

    type: Raw | UnsetType = UNSET
    session: Raw | UnsetType = UNSET
    user: Raw | UnsetType = UNSET
    id: Raw | UnsetType = UNSET
    data: Raw | UnsetType = UNSET


class _User(Struct, frozen=True):
    id: Raw | UnsetType = UNSET


class _Result(Struct, frozen=True):
    success: bool


class _Bare(Struct, frozen=True):
    id: Raw | UnsetType
    success: bool


class _Enveloped(Struct, frozen=True):
    id: Raw | UnsetType
    data: _Result


_encode: Final = json.Encoder().encode
_decode_message: Final = json.Decoder(_Message).decode
_decode_text: Final = json.Decoder(str).decode
_decode_user: Final = json.Decoder(_User).decode

NOTIFICATION: Final = _encode({"type": CLOSE}).decode()
NOTIFICATION_ENVELOPED: Final = _encode({"data": {"type": CLOSE}}).decode()


def _inner(top: _Message) -> _Message | None:
    """The message in the envelope: `data`, where it is an object whose `type` is a string. None in a bare message."""
    if top.data is UNSET:
        return None
    try:
        inner = _decode_message(top.data)
        _decode_text(inner.type if isinstance(inner.type, Raw) else b"")
    except MsgspecError:
        return None
    return inner
