"""A change of one's own profile, checked and prepared for its decision."""

from __future__ import annotations

from msgspec import Struct, UnsetType

from events.catalogue import Personal
from projections.users import User
from service.credentials.identifiers import IdentifierRules, Prepared, prepare_email, prepare_nickname, prepare_password
from service.decisions.profile import ChangeProfile, NewPassword, Renaming
from service.decisions.registration import Taking
from service.decisions.throttling import Limit
from service.errors import FieldError, InvalidFields
from service.gate.lookups import Lookups, Principal


class ProfileForm(Struct, frozen=True):
    """What is to change, each field within its rule; the repr shows no password."""

    nickname: Taking | None
    email: Taking | None
    removes_email: bool
    old_password: str | None
    new_password: str | None

    def __repr__(self) -> str:
        return "ProfileForm(…)"


def checked(
    lookups: Lookups,
    rules: IdentifierRules,
    user: User,
    *,
    nickname: str | UnsetType,
    email: str | UnsetType | None,
    old_password: str | None,
    new_password: str | None,
) -> ProfileForm:
    """The form; InvalidFields names every field that breaks its rule."""
    errors: list[FieldError] = []
    new_nickname = new_email = prepared = None
    if isinstance(nickname, str):
        try:
            new_nickname = lookups.taking("nickname", prepare_nickname(nickname, rules))
        except InvalidFields as refusal:
            errors += refusal.errors
    if isinstance(email, str):
        try:
            new_email = lookups.taking("email", prepare_email(email))
        except InvalidFields as refusal:
            errors += refusal.errors
    if new_password is not None:
        try:
            prepared = prepare_password(new_password, rules, field="new_password", own=_own_names(lookups, user))
        except InvalidFields as refusal:
            errors += refusal.errors
        if old_password is None:
            errors.append(FieldError("old_password", "The old password is needed for a new one."))
    if errors:
        raise InvalidFields(*errors)
    return ProfileForm(new_nickname, new_email, email is None, old_password, prepared)


def profile_command(
    lookups: Lookups,
    principal: Principal,
    form: ProfileForm,
    new_hash: str | None = None,
    limits: tuple[Limit, ...] = (),
) -> ChangeProfile:
    """The command, with the versions of what was verified and read, and the throttles it was held against."""
    user = principal.user

    def released(value: Personal | None) -> str | None:
        return None if value is None else lookups.opened(value)

    return ChangeProfile(
        user_id=user.id,
        session_id=principal.session.id,
        profile_version=user.profile_version,
        nickname=None if form.nickname is None else Renaming(form.nickname, released(user.nickname_prepared)),
        email=None if form.email is None else Renaming(form.email, released(user.email_prepared)),
        email_removed=released(user.email_prepared) if form.removes_email else None,
        password=None if new_hash is None else NewPassword(new_hash, user.password_version),
        limits=limits,
    )


def _own_names(lookups: Lookups, user: User) -> list[Prepared]:
    names = [(user.username, user.username), (user.nickname, user.nickname_prepared)]
    if user.email is not None and user.email_prepared is not None:
        names.append((user.email, user.email_prepared))
    return [Prepared(lookups.opened(typed), lookups.opened(compared)) for typed, compared in names]
