"""What can be asked for through the route protocol, and which of its versions takes what."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Final

from msgspec import UNSET, Struct, UnsetType

from service.errors import FieldError

__all__ = ["V1", "V2", "Authenticate", "Call", "Edition", "Login", "Logout", "ProfileUpdate", "Registration", "missing"]


def missing(field: str) -> FieldError:
    """The fault of a field that is not there."""
    return FieldError(field, f"`{field}` is missing.")


class Call(Struct, frozen=True):
    """What a request asks for. Most calls hold a secret, so the repr shows the kind alone."""

    takes_data: ClassVar[bool] = True

    def __repr__(self) -> str:
        return f"{type(self).__name__}(…)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []

    def faults(self) -> list[FieldError]:
        """Fields that are missing because of what the others say."""
        return []


class Login(Call, frozen=True):
    """`auth.login`. The username may be any identifier.

    `device_key` is what an earlier login gave to keep; whoever has none yet and wants one sends an empty one.
    """

    username: str
    password: str
    device_key: str | UnsetType = UNSET


class Authenticate(Call, frozen=True):
    """`auth.authenticate`."""

    session_key: str


class Logout(Call, frozen=True):
    """`auth.logout`, the one route without data: what stands there is unknown to the contract, and passed over."""

    takes_data = False


class Registration(Call, frozen=True):
    """`auth.register`."""

    username: str
    password: str
    nickname: str


class ProfileUpdate(Call, frozen=True):
    """`auth.update_profile`: what is not given stays as it is."""

    new_password: str | UnsetType = UNSET
    old_password: str | UnsetType = UNSET
    nickname: str | UnsetType = UNSET

    def faults(self) -> list[FieldError]:
        """A new password without the old one."""
        if self.new_password is not UNSET and self.old_password is UNSET:
            return [missing("old_password")]
        return []


class Edition(Struct, frozen=True):
    """One version of the protocol: its door's name, its routes, and what `error` says when all is well."""

    door: str
    routes: Mapping[str, type[Call]]
    success: bool | UnsetType


V1: Final = Edition(
    "route-v1", MappingProxyType({"auth.login": Login, "auth.authenticate": Authenticate}), success=UNSET
)
"""Version 1: packets of success have no `error` key."""

V2: Final = Edition(
    "route-v2",
    MappingProxyType(
        {
            "auth.login": Login,
            "auth.authenticate": Authenticate,
            "auth.logout": Logout,
            "auth.register": Registration,
            "auth.update_profile": ProfileUpdate,
        }
    ),
    success=False,
)
"""Version 2: three more routes, and `error: false`."""
