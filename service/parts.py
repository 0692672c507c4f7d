"""The parts of a running service, put together from the settings. Nothing runs yet: `service.app` starts the tasks."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

from msgspec import Struct

from events.errors import StoreError
from events.follow import Arrivals, Follower
from events.log import Query
from events.recorded import from_microseconds
from service.audit import Audit
from service.batch import BatchRunner, Clock
from service.book import Book, StoreAddress, open_book
from service.credentials.access_tokens import NamedIn
from service.credentials.clients import Clients
from service.credentials.cookies import Cookies
from service.credentials.devices import Devices
from service.credentials.identifiers import identifier_rules
from service.credentials.passwords import HashingCost, Passwords
from service.credentials.signing_keys import SigningKeys
from service.gate.access_tokens import AccessTokens
from service.gate.attempts import Attempts
from service.gate.gate import Gate, GateSettings
from service.gate.guests import Guests
from service.gate.lookups import Lookups
from service.gate.throttling import ThrottlePolicy, Throttling
from service.gate.turns import Turns
from service.housekeeping import Housekeeping
from service.metrics import Metrics
from service.observation import Observation
from service.past import Past
from service.readers import Readers
from service.rebuilds import Rebuilds
from service.settings import Settings
from service.sockets.registry import ENDING, Registry
from service.tails import TailLimits, Tails
from service.web.admin import Admin
from service.writer import BatchTold, Writer


class Parts(Struct, frozen=True):
    """What the tasks and the doors are made of."""

    book: Book
    writer: Writer
    passwords: Passwords
    gate: Gate
    guests: Guests
    cookies: Cookies
    devices: Devices
    access_tokens: AccessTokens
    clients: Clients
    rebuilds: Rebuilds
    tails: Tails
    admin: Admin
    readers: Readers
    arrivals: Arrivals
    follower: Follower
    registry: Registry
    endings: Follower
    housekeeping: Housekeeping
    metrics: Metrics
    observation: Observation
    clock: Clock
    skew: timedelta

    def unready(self) -> list[str]:
        """Why the service cannot do its work at the moment; empty when it can."""
        reasons = [] if self.writer.trouble is None else [self.writer.trouble]
        try:
            # For what it refuses: a newer gatebook may have taken over the store.
            self.book.outdated()
            behind = from_microseconds(self.book.log.head().at) - self.clock()
        except StoreError as error:
            return [*reasons, str(error)]
        if behind > self.skew:
            reasons.append(f"the clock is {behind.total_seconds():.0f} s behind the last entry of the book")
        return reasons


def assemble(settings: Settings, address: StoreAddress, book: Book, clock: Clock) -> Parts:
    """The parts, over a book that belongs to the event loop. The writer and the readers open books of their own."""
    metrics = Metrics()
    observation = Observation(metrics)
    arrivals = Arrivals()
    skew = timedelta(seconds=settings.clock_skew_seconds)

    def told(batch: BatchTold) -> None:
        observation.batch(batch)
        arrivals.announce()

    writer = Writer(
        lambda: BatchRunner(open_book(address), clock=clock, skew=skew),
        batch_size=settings.batch_size,
        most_waiting=settings.waiting_commands,
        observer=told,
    )
    metrics.commands_waiting.set_function(lambda: writer.waiting)
    passwords = Passwords(
        HashingCost(settings.argon2_memory_kib, settings.argon2_time, settings.argon2_parallelism),
        workers=settings.hashing_workers,
        longest_wait=settings.hashing_wait_seconds,
        gauges=metrics,
    )
    idle_limit = timedelta(seconds=settings.session_idle_limit) if settings.session_idle_limit else None
    lookups = Lookups(book, clock, idle_limit)
    lifetime = timedelta(seconds=settings.session_lifetime)
    throttling = Throttling(book.keyring, _policy(settings))
    cookies = Cookies(book.keyring, clock)
    devices = Devices(book.keyring, clock)
    turns = Turns(longest_wait=settings.hashing_wait_seconds, seconds_each=lambda: passwords.seconds_each)
    metrics.attempts_waiting.set_function(lambda: turns.waiting)
    signing_keys = SigningKeys(book.log, book.keyring, clock)
    rules = identifier_rules(settings.reserved_names, common_passwords_refused=settings.common_passwords_refused)
    readers = Readers(partial(open_book, address))
    rebuilds = Rebuilds(address, writer, metrics, clock)
    registry = Registry(lookups.lives, metrics, tell_seconds=settings.write_seconds)
    tail_limits = TailLimits(settings.max_tails, settings.list_page, settings.tail_backlog)
    tails = Tails(readers, lookups, arrivals, registry, metrics, tail_limits)
    audit = Audit(writer, interval=timedelta(seconds=settings.audit_coalesce_seconds), clock=clock)
    return Parts(
        book=book,
        writer=writer,
        passwords=passwords,
        gate=Gate(
            lookups,
            writer,
            passwords,
            Attempts(lookups, writer, throttling, turns, clock),
            devices,
            rules,
            _gate_settings(settings, idle_limit),
            clock,
        ),
        guests=Guests(
            lookups,
            writer,
            throttling,
            lifetime=lifetime,
            per_address=settings.guests_per_address,
            in_all=settings.guests_in_all,
            clock=clock,
        ),
        cookies=cookies,
        devices=devices,
        access_tokens=AccessTokens(
            signing_keys,
            lookups,
            NamedIn(settings.token_issuer, settings.token_audience),
            lifetime=timedelta(seconds=settings.token_lifetime),
            clock=clock,
        ),
        clients=Clients(settings.introspection_clients),
        rebuilds=rebuilds,
        tails=tails,
        admin=Admin(
            readers,
            writer,
            lookups,
            audit,
            Past(address, readers),
            rebuilds,
            tails,
            book.projections,
            page=settings.list_page,
        ),
        readers=readers,
        arrivals=arrivals,
        follower=Follower(book.log, arrivals, Query(after=book.log.head().position, limit=settings.read_page)),
        registry=registry,
        endings=Follower(
            book.log, arrivals, Query(after=book.log.head().position, type=ENDING, limit=settings.read_page)
        ),
        housekeeping=Housekeeping(
            book,
            writer,
            throttling,
            cookies,
            devices,
            signing_keys,
            clock,
            settings.expiry_batch,
            idle_limit,
            lifetime,
            timedelta(days=settings.device_days),
        ),
        metrics=metrics,
        observation=observation,
        clock=clock,
        skew=skew,
    )


def _policy(settings: Settings) -> ThrottlePolicy:
    return ThrottlePolicy(
        settings.throttle_account_failures,
        settings.throttle_address_failures,
        settings.throttle_registrations,
        settings.throttle_address_in_flight,
        timedelta(seconds=settings.throttle_max_delay),
    )


def _gate_settings(settings: Settings, idle_limit: timedelta | None) -> GateSettings:
    return GateSettings(
        timedelta(seconds=settings.session_lifetime),
        timedelta(seconds=settings.session_seen_interval),
        settings.sessions_per_user,
        idle_limit,
        registration_open=settings.registration == "open",
    )
