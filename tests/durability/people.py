"""People who use the service, and what each of them was told: that is what must be true after a crash."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from enum import Enum

from tests.durability.doors import BusyError, Door, GoneError, RefusedError

UNAUTHENTICATED = {401, 403}


class Told(Enum):
    """What a person knows of a session."""

    OPEN = "open"
    ENDED = "ended"
    UNKNOWN = "unknown"


@dataclass
class Person:
    """Somebody with a name of their own; `wrong` says what they were told that cannot be."""

    username: str
    chance: random.Random
    registered: bool = False
    asked_to_register: bool = False
    password: str = ""
    perhaps_password: str | None = None
    nicknames: list[str] = field(default_factory=list)
    perhaps_nickname: str | None = None
    passwords_changed: int = 0
    logins_asked: int = 0
    sessions: dict[str, Told] = field(default_factory=dict)
    answers: int = 0
    wrong: list[str] = field(default_factory=list)

    async def act(self, door: Door) -> None:
        """Does one thing. GoneError where the service went; what was not answered is from then on unknown."""
        try:
            await self._act(door)
            self.answers += 1
        except BusyError:
            self.perhaps_nickname = None
        except RefusedError as refusal:
            self.wrong.append(f"{self.username} was refused with {refusal.code}")

    async def look(self, door: Door) -> None:
        """Asks after their sessions: open ones must be honoured, ended ones, a few of them, must not."""
        ended = [token for token, told in self.sessions.items() if told is Told.ENDED]
        asked = set(self.sessions).difference(ended).union(self.chance.sample(ended, min(len(ended), 3)))
        for token in sorted(asked):
            told = self.sessions[token]
            open_ = await self._is_open(door, token)
            if told is not Told.UNKNOWN and open_ is not (told is Told.OPEN):
                self.wrong.append(f"a session of {self.username} is {'open' if open_ else 'over'}, told: {told.value}")
            self.sessions[token] = Told.OPEN if open_ else Told.ENDED

    async def settle(self, door: Door) -> None:
        """Finds out what became of the last thing that was not answered."""
        if self.asked_to_register and not self.registered:
            try:
                await door.register(self.username, self._nickname(), self.password)
            except RefusedError as refusal:
                if refusal.code not in {422, 450}:
                    raise
            self.registered = True
        if self.perhaps_password is not None:
            try:
                await self._log_in(door, self.perhaps_password)
                self.password = self.perhaps_password
            except RefusedError:
                await self._log_in(door, self.password)
            self.perhaps_password = None
        self.perhaps_nickname = None

    @property
    def open(self) -> list[str]:
        """The sessions that they were told are open."""
        return [token for token, told in self.sessions.items() if told is Told.OPEN]

    async def _act(self, door: Door) -> None:
        draw = self.chance.random()
        if not self.registered:
            await self._register(door)
        elif not self.open or draw < 0.25:
            await self._log_in(door, self.password)
        elif draw < 0.55:
            await self._rename(door)
        elif draw < 0.7:
            await self._change_password(door)
        elif draw < 0.8:
            await self._ask_who(door)
        else:
            await self._log_out(door)

    async def _register(self, door: Door) -> None:
        self.password = self._fresh("password")
        self.asked_to_register = True
        try:
            await door.register(self.username, self._nickname(), self.password)
        except BusyError:
            self.asked_to_register = False
            raise
        self.registered = True

    async def _log_in(self, door: Door, password: str) -> None:
        replaced = door.ended_by_login
        self.logins_asked += 1
        try:
            token = await door.log_in(self.username, password)
        except GoneError:
            if replaced in self.sessions:
                self.sessions[replaced] = Told.UNKNOWN
            raise
        if replaced in self.sessions:
            self.sessions[replaced] = Told.ENDED
        self.sessions[token] = Told.OPEN

    async def _log_out(self, door: Door) -> None:
        token = self.chance.choice(self.open)
        try:
            await door.log_out(token)
        except GoneError:
            self.sessions[token] = Told.UNKNOWN
            raise
        self.sessions[token] = Told.ENDED

    async def _rename(self, door: Door) -> None:
        self.perhaps_nickname = self._nickname()
        await door.rename(self.chance.choice(self.open), self.perhaps_nickname)
        self.nicknames.append(self.perhaps_nickname)
        self.perhaps_nickname = None

    async def _change_password(self, door: Door) -> None:
        token, new = self.chance.choice(self.open), self._fresh("password")
        others = [other for other in self.open if other != token]
        try:
            await door.change_password(token, self.password, new)
        except GoneError:
            self.perhaps_password = new
            self.sessions.update(dict.fromkeys(others, Told.UNKNOWN))
            raise
        self.password = new
        self.passwords_changed += 1
        self.sessions.update(dict.fromkeys(others, Told.ENDED))

    async def _ask_who(self, door: Door) -> None:
        if not await self._is_open(door, self.chance.choice(self.open)):
            self.wrong.append(f"an open session of {self.username} is not honoured")

    async def _is_open(self, door: Door, token: str) -> bool:
        try:
            username = await door.username(token)
        except RefusedError as refusal:
            if refusal.code not in UNAUTHENTICATED:
                raise
            return False
        if username != self.username:
            self.wrong.append(f"a session of {self.username} belongs to {username}")
        return True

    def _nickname(self) -> str:
        return self._fresh("n")

    def _fresh(self, prefix: str) -> str:
        return f"{prefix}{self.chance.getrandbits(64):016x}"
