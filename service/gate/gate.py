"""The gate: the work before the writer, the same for every door.

Here is what takes a clock, a hash or a lookup: names are prepared, throttles asked, passwords verified. What comes out
is a command for the writer, with the version of whatever was verified; the decision refuses when that has moved since,
and the gate verifies anew.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Final

from msgspec import UNSET, Struct, UnsetType

from events.catalogue import USER, SessionOpened
from events.recorded import Recorded
from projections.catalogue import SESSIONS, USERS
from projections.sessions import Session
from projections.users import User
from service.batch import Clock, utc_now
from service.credentials.devices import Devices
from service.credentials.identifiers import (
    IdentifierRules,
    check_registration,
    prepare_identifier,
    prepare_password_for_check,
)
from service.credentials.passwords import Passwords
from service.credentials.tokens import digest, format_token, new_secret
from service.decisions.command import Command
from service.decisions.login import LogIn
from service.decisions.profile import ChangeProfile
from service.decisions.registration import Register, Taking
from service.decisions.sessions import EndOtherSessions, EndOwnSession, EndSession, SeeSession, is_over
from service.decisions.throttling import Limit
from service.errors import BadCredentials, FieldError, InvalidFields, RegistrationClosed, Stale, Unavailable
from service.gate.attempts import ANONYMOUS, Attempts, Client
from service.gate.lookups import Guest, Holder, Lookups, Principal, UserView
from service.gate.profile import ProfileForm, checked, profile_command
from service.writer import Writer

ATTEMPTS: Final = 3


class LoggedIn(Struct, frozen=True):
    """A login that succeeded: the token, which is shown this once and stored nowhere, and the account.

    `device` is what the client may keep, and show at its next login.
    """

    token: str
    device: str
    principal: Principal

    def __repr__(self) -> str:
        return f"LoggedIn({self.principal.actor})"


class GateSettings(Struct, frozen=True):
    """The settings that the gate needs."""

    session_lifetime: timedelta = timedelta(days=1)
    seen_interval: timedelta = timedelta(hours=1)
    sessions_per_user: int = 100
    idle_limit: timedelta | None = None
    registration_open: bool = True


class Gate:
    """See the module. Every method may raise Overloaded, and Unavailable when the service cannot decide."""

    def __init__(
        self,
        lookups: Lookups,
        writer: Writer,
        passwords: Passwords,
        attempts: Attempts,
        devices: Devices,
        rules: IdentifierRules,
        settings: GateSettings,
        clock: Clock = utc_now,
    ) -> None:
        self.lookups = lookups
        self._writer = writer
        self._passwords = passwords
        self._attempts = attempts
        self._devices = devices
        self._rules = rules
        self._settings = settings
        self._clock = clock

    async def register(
        self, client: Client, *, username: str, nickname: str, password: str, email: str | None = None
    ) -> int:
        """Makes an account of level 1 and gives its id; does not log in.

        Raises InvalidFields, naming every field that breaks its rule or is taken; Throttled; RegistrationClosed where
        the settings say that nobody registers.
        """
        if not self._settings.registration_open:
            raise RegistrationClosed
        forms = check_registration(username, nickname, password, email, self._rules)
        taking = self.lookups.taking
        names = taking("username", forms.username), taking("nickname", forms.nickname)
        address = taking("email", forms.email) if forms.email else None
        async with self._attempts.naming(client) as limits:
            # Before the costly hash. The decision looks again.
            self._refuse_taken(*names, address)
            password_hash = await self._passwords.hash(forms.password)
            command = Register(*names, address, password_hash, USER, client.address, client.agent, limits)
            recorded = await self._writer.submit(command, actor=ANONYMOUS, door=client.door)
        return recorded[0].position

    async def log_in(
        self,
        client: Client,
        identifier: str,
        password: str,
        *,
        replaces: Principal | None = None,
        guest: Guest | None = None,
    ) -> LoggedIn:
        """Opens a session. `replaces` is what the connection held before; its session ends in the same command.

        So does that of the `guest` who logs in, and the guest is linked to the account. Raises BadCredentials, which
        never says what was wrong; Throttled; Unauthenticated where the guest's session has just ended.
        """
        known = prepare_identifier(identifier)
        tag = None if known is None else self.lookups.tag(known.kind, known.compared)
        prepared = prepare_password_for_check(password)
        for _ in range(ATTEMPTS):
            user, evaluated = self.lookups.at_login(tag, identifier)
            # An account is throttled as one, whichever of its names is typed; a name of nobody is throttled likewise.
            account = tag if user is None else f"user {user.id}"
            device = self._device(client, user, replaces)
            turn = self._attempts.turn(client, account or identifier, throttled_as=account, device=device)
            async with turn as mine:
                # As it is once the turn has come: whoever had it before may have changed the password.
                evaluated = None if evaluated is None else self.lookups.user(evaluated.id)
                user = None if user is None else evaluated
                encoded = None if evaluated is None else self.lookups.opened(evaluated.password_hash)
                verified = await self._passwords.verify(encoded, prepared)
                # Failures at another process may have used up the free ones meanwhile: nothing is said then.
                limits = await mine.admitted()
                if user is None or not verified.matches or not user.active:
                    # Of somebody else's password, where nobody has that name, it says nothing that it matched.
                    await self._attempts.failed(client, user, limits, matched=verified.matches, evaluated=evaluated)
                    raise BadCredentials
                rehashed = await self._passwords.hash(prepared) if verified.needs_rehash else None
                with suppress(Stale):
                    return await self._open_session(client, user, limits, rehashed, replaces, guest)
        raise Unavailable("the account kept changing while its password was verified")

    async def log_out(self, client: Client, principal: Principal) -> None:
        """Ends the principal's session; Unauthenticated when it is over already."""
        await self._submit(EndSession(principal.session.id, principal.user.id), principal, client)

    async def end_session(self, client: Client, principal: Principal, session_id: int) -> None:
        """Ends another of the principal's own sessions. NotFound for one that is over, or somebody else's.

        Raises Unauthenticated, with nothing ended, when the principal's own is over by then.
        """
        command = EndOwnSession(session_id, principal.user.id, principal.session.id, self._settings.idle_limit)
        await self._submit(command, principal, client)

    async def end_other_sessions(self, client: Client, principal: Principal) -> int:
        """Ends all of the principal's sessions but the present one, and says how many; Unauthenticated as above."""
        command = EndOtherSessions(principal.user.id, principal.session.id, self._settings.idle_limit)
        return len(await self._submit(command, principal, client))

    def is_live(self, session: Session) -> bool:
        """Whether an open session is not over by the clock."""
        return not is_over(session, self._clock(), self._settings.idle_limit)

    async def seen(self, client: Client, holder: Holder) -> None:
        """Notes, once in the interval, that the session is in use; under load the note is dropped, not queued.

        Raises nothing: a check holds whether it was noted or not.
        """
        if self._clock() - holder.session.seen_at < self._settings.seen_interval:
            return
        note = SeeSession(holder.session.id, self._settings.seen_interval, self._settings.idle_limit)
        await self._writer.note(note, actor=holder.actor, door=client.door)

    async def change_profile(
        self,
        client: Client,
        principal: Principal,
        *,
        nickname: str | UnsetType = UNSET,
        email: str | UnsetType | None = UNSET,
        old_password: str | None = None,
        new_password: str | None = None,
    ) -> UserView:
        """Changes what is given, all or nothing; `email=None` removes the address. Gives the account as it is then.

        A new password takes the old one, and ends every other session of the user. Raises InvalidFields (a wrong old
        password is a fault of `old_password`), Throttled, Unauthenticated.
        """
        for _ in range(ATTEMPTS):
            principal = self.lookups.renewed(principal)
            form = checked(
                self.lookups, self._rules, principal.user,
                nickname=nickname, email=email, old_password=old_password, new_password=new_password,
            )  # fmt: skip
            if form.nickname or form.email:
                async with self._attempts.naming(client):
                    self._refuse_taken(form.nickname, form.email, but=principal.user.id)
            if form.old_password is None:
                command = profile_command(self.lookups, principal, form)
            else:
                command = await self._with_password(client, principal, form, form.old_password)
            with suppress(Stale):
                recorded = await self._submit(command, principal, client)
                return self.lookups.view(_folded(principal.user, recorded))
        raise Unavailable("the account kept changing while its password was verified")

    async def _with_password(
        self, client: Client, principal: Principal, form: ProfileForm, old_password: str
    ) -> ChangeProfile:
        """The command of a form that holds the old password, which is verified whether there is a new one or not."""
        user = principal.user
        account = f"user {user.id}"
        # Whoever has a session is at a device that the account knows.
        turn = self._attempts.turn(client, account, throttled_as=account, device=_device_of(principal))
        async with turn as mine:
            old = prepare_password_for_check(old_password)
            verified = await self._passwords.verify(self.lookups.opened(user.password_hash), old)
            # Once more, as at a login.
            limits = await mine.admitted()
            if not verified.matches:
                await self._attempts.failed(client, user, limits, matched=False, evaluated=user)
                raise InvalidFields(FieldError("old_password", "The old password is wrong."))
        new_hash = None if form.new_password is None else await self._passwords.hash(form.new_password)
        return profile_command(self.lookups, principal, form, new_hash, limits)

    def _device(self, client: Client, user: User | None, replaces: Principal | None) -> str | None:
        """What the account knows the client by, if it does: what it kept of a login, or the session that it holds."""
        # Opened also where there is no account to know it: that takes time.
        known = self._devices.recognised(client.device, None if user is None else user.id)
        if known is None and user is not None and replaces is not None and replaces.user.id == user.id:
            return _device_of(replaces)
        return known

    async def _open_session(
        self,
        client: Client,
        user: User,
        limits: tuple[Limit, ...],
        rehashed: str | None,
        replaces: Principal | None,
        guest: Guest | None,
    ) -> LoggedIn:
        # First: a session that its client would not hear of is not opened.
        device = self._devices.after_login(client.device, user.id)
        secret = new_secret()
        command = LogIn(
            user_id=user.id,
            password_version=user.password_version,
            token_digest=digest(secret),
            lifetime=self._settings.session_lifetime,
            most_sessions=self._settings.sessions_per_user,
            replaces=None if replaces is None else replaces.session.id,
            rehashed=rehashed,
            limits=limits,
            address=client.address,
            agent=client.agent,
            guest=None if guest is None else guest.session.id,
        )
        recorded = await self._writer.submit(command, actor=f"user-{user.id}", door=client.door)
        opened = next(one for one in recorded if isinstance(one.event, SessionOpened))
        # Out of what was recorded, not looked up anew: whatever happened since, this login succeeded.
        session = SESSIONS.evolve(str(opened.position), None, opened)
        assert session is not None  # noqa: S101 - a session that opens is there
        return LoggedIn(format_token(opened.position, secret), device, Principal(_folded(user, (opened,)), session))

    async def _submit(self, command: Command, principal: Principal, client: Client) -> tuple[Recorded, ...]:
        return await self._writer.submit(command, actor=principal.actor, door=client.door)

    def _refuse_taken(self, *takings: Taking | None, but: int | None = None) -> None:
        names = [self.lookups.name(taking.tag) for taking in takings if taking is not None]
        taken = [
            FieldError(name.kind, f"This {'e-mail address' if name.kind == 'email' else name.kind} is taken.")
            for name in names
            if name is not None and name.user_id != but
        ]
        if taken:
            raise InvalidFields(*taken)


def _device_of(principal: Principal) -> str:
    """What stands for the device that holds a session."""
    return f"session {principal.session.id}"


def _folded(user: User, recorded: tuple[Recorded, ...]) -> User:
    """The account after what was recorded about it. Looked up anew, it might be gone, or its session over, by then."""
    for one in recorded:
        user = USERS.evolve(str(user.id), user, one) or user
    return user
