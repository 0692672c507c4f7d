"""Every refusal that gatebook gives, in one file, with one table to each door's status codes.

A refusal is an answer: somebody asked for something and is told, in a sentence fit for a stranger, why it was not done.
Nothing in a refusal repeats what was typed. Faults of the store or of the book itself are not here: see
`events.errors`.
"""

from __future__ import annotations

from typing import ClassVar, Final

from msgspec import Struct


class FieldError(Struct, frozen=True):
    """One field that breaks its rule: the field's wire name and a sentence for the person who filled it in."""

    field: str
    message: str


class Refused(Exception):
    """The request was understood and is not carried out; nothing was written.

    `code` is the stable word for machines, `message` the sentence for people.
    """

    code: ClassVar[str] = "refused"
    message: str = "The request was refused."

    def __init__(self, message: str | None = None) -> None:
        if message is not None:
            self.message = message
        super().__init__(self.message)


class Malformed(Refused):
    """The message is not what its contract describes: not JSON, a wrong type, a missing or unknown field, too deep."""

    code = "malformed"
    message = "The message is malformed."


class TooLarge(Refused):
    """The message is larger than the setting that bounds it."""

    code = "too_large"
    message = "The message is too large."


class UnsupportedMedia(Refused):
    """The body is said to be something else than JSON, or nothing is said about it at all."""

    code = "unsupported_media"
    message = "The body must be JSON, with the header Content-Type: application/json."


class NoSuchRoute(Refused):
    """The address or route names nothing that this door serves."""

    code = "no_such_route"
    message = "There is no such route."


class MethodNotAllowed(Refused):
    """The address exists, the method does not."""

    code = "method_not_allowed"
    message = "This address does not take that method."


class AlreadyLoggedIn(Refused):
    """Somebody asks to be logged in with a token that is logged in. The words are the auth-server contract's."""

    code = "already_logged_in"
    message = "already logged in"


class NotFound(Refused):
    """The thing that was asked for does not exist, or no longer does."""

    code = "not_found"
    message = "There is nothing here by that name."


class InvalidFields(Refused):
    """One or more fields break their rules. `errors` names each; it is never empty."""

    code = "invalid_fields"
    message = "Some fields break their rules."

    def __init__(self, *errors: FieldError) -> None:
        self.errors: tuple[FieldError, ...] = errors
        super().__init__(errors[0].message if len(errors) == 1 else None)


class BadCredentials(Refused):
    """Identifier and password do not belong together. Says no more than that: not which of them was wrong."""

    code = "bad_credentials"
    message = "The identifier or the password is wrong."


class Unauthenticated(Refused):
    """No live session stands behind the request. Raised only when that is known, never when the store cannot say."""

    code = "unauthenticated"
    message = "A live session is needed; please log in."


class Forbidden(Refused):
    """There is a principal, and it may not do this."""

    code = "forbidden"
    message = "You may not do this."


class CrossSite(Forbidden):
    """A page of another site made the request, or it cannot be told which; no cookie counts then, and none is set."""

    code = "cross_site"
    message = "This request came from another site and was not carried out."


class RegistrationClosed(Forbidden):
    """Nobody makes an account for themselves here: the setting `registration` says so."""

    code = "registration_closed"
    message = "Registration is closed here: accounts are made by whoever runs this service."


class Conflict(Refused):
    """The state of the book does not admit the command: already so, or the last of its kind."""

    code = "conflict"
    message = "This cannot be done in the present state."


class LastAdmin(Conflict):
    """The command would leave the service without an active admin."""

    code = "last_admin"
    message = "The last active admin can be neither demoted nor deactivated; make another admin first."


class Stale(Refused):
    """What was verified before the writer has moved since. The gate verifies anew; no client sees this one."""

    code = "stale"
    message = "The account changed at the same moment; please try again."


class Throttled(Refused):
    """Too many failures or registrations of late, or too many under way. `retry_after` is in whole seconds, from 1."""

    code = "throttled"

    def __init__(self, retry_after: int) -> None:
        self.retry_after = max(1, retry_after)
        super().__init__(f"Too many attempts; try again in {self.retry_after} s.")


class TooManyGuests(Throttled):
    """As many guests as one address may have are there. `retry_after` is when the first of them is over."""

    code = "too_many_guests"

    def __init__(self, retry_after: int) -> None:
        super().__init__(retry_after)
        self.message = "There are too many guests from this address; log in, or try again later."
        self.args = (self.message,)


class Overloaded(Refused):
    """A bound with a name is reached (hashing, waiting commands). `retry_after` is in whole seconds, at least 1."""

    code = "overloaded"

    def __init__(self, what: str, retry_after: int = 1) -> None:
        self.what = what
        self.retry_after = max(1, retry_after)
        super().__init__("The service is busy; try again shortly.")


class Unavailable(Refused):
    """The service cannot decide at this moment: store out of room, clock behind the book, stopping.

    `reason` is for the log and for readiness; the message stays the same for everybody.
    """

    code = "unavailable"
    message = "The service cannot answer this at the moment; please try again later."

    def __init__(self, reason: str, retry_after: int = 5) -> None:
        self.reason = reason
        self.retry_after = max(1, retry_after)
        super().__init__()


class InternalError(Refused):
    """A fault of ours in one command: nothing was written, the details are in the log under the command's id."""

    code = "internal_error"
    message = "Something went wrong on our side."

    projection: str | None = None
    """Whose fold failed, where that was the fault: for the metrics alone."""


# HTTP status (RFC 9110, RFC 6585) of each refusal at the account API and the admin endpoint.
HTTP_STATUS: Final[dict[type[Refused], int]] = {
    Malformed: 400,
    Unauthenticated: 401,
    BadCredentials: 401,
    Forbidden: 403,
    CrossSite: 403,
    RegistrationClosed: 403,
    NotFound: 404,
    NoSuchRoute: 404,
    MethodNotAllowed: 405,
    Conflict: 409,
    LastAdmin: 409,
    Stale: 409,
    TooLarge: 413,
    UnsupportedMedia: 415,
    InvalidFields: 422,
    Throttled: 429,
    InternalError: 500,
    Overloaded: 503,
    Unavailable: 503,
}

# HTTP status of each refusal at the auth-server door: as above, but for what its contract says otherwise.
AUTH_SERVER_STATUS: Final[dict[type[Refused], int]] = HTTP_STATUS | {
    BadCredentials: 422,
    AlreadyLoggedIn: 406,
    TooManyGuests: 429,
}

# HTTP status of each refusal at react-auth: 200 where its contract has an answer, for its client stumbles over others.
REACT_AUTH_STATUS: Final[dict[type[Refused], int]] = HTTP_STATUS | {
    BadCredentials: 200,
    Unauthenticated: 200,
    Throttled: 200,
}

# `error_code` of each refusal in the route protocol's packets. 1013 closes follow an Unavailable, see service/sockets.
ROUTE_ERROR_CODE: Final[dict[type[Refused], int]] = {
    Malformed: 400,
    TooLarge: 400,
    BadCredentials: 401,
    Unauthenticated: 401,
    Forbidden: 403,
    CrossSite: 403,
    RegistrationClosed: 403,
    NoSuchRoute: 404,
    NotFound: 404,
    Conflict: 450,
    InvalidFields: 450,
    Throttled: 429,
    Stale: 500,
    InternalError: 500,
}
