"""The figures: each takes turns between the systems, so that a noisy minute hits them alike."""

from __future__ import annotations

import asyncio
import os
import secrets
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import bcrypt

from . import databases
from .databases import PASSWORD, Accounts
from .load import Load
from .server import Server, put_under, serving
from .systems import AUTHX, COMPLETE, FLOOR, PLUGGABLE, SYSTEMS, UNRESET, USERS_DATABASE, USERS_JWT, System

T = TypeVar("T")

CONNECTIONS = 32
GATHERING_SECONDS = 1
"""How long a storm of logins has been going on when it counts: its clients all begin at once, which they
never do again."""
PROBES_PER_SECOND = 100
"""Requests for `/auth/me` while others log in: too few to load the server, enough for a 99th percentile."""


@dataclass(frozen=True)
class Length:
    """How long things are measured."""

    users: int
    rounds: int
    seconds: float
    soak_seconds: float
    growth: tuple[int, ...]
    workers: tuple[int, ...] = (1, 2)
    systems: tuple[str, ...] = ()
    """The names of those to measure; all of them if there are none."""


FULL = Length(100_000, 6, 4, 600, (1_000, 100_000, 1_000_000))
QUICK = Length(2_000, 2, 1, 5, (2_000, 10_000))


@dataclass(frozen=True)
class Sample:
    """What one system was measured at in one round."""

    figure: str
    setting: str
    system: str
    value: float
    unit: str


class Bench:
    """Databases made once for each system and size, and the figures measured on them."""

    def __init__(self, folder: Path, length: Length) -> None:
        self._folder = folder
        self._length = length
        self._filled: dict[tuple[str, str, int], tuple[str, Accounts]] = {}
        self._used: defaultdict[tuple[str, str, int], int] = defaultdict(int)

    def me(self) -> Iterable[Sample]:
        """Requests per second of users that ask who they are."""
        for dialect in databases.DIALECTS:
            for workers in self._length.workers:
                for system in self._turns(_that_can(SYSTEMS, dialect, workers)):
                    url, accounts = self._database(system, dialect)
                    with serving(system.app, url, workers, **system.environment) as server:
                        value = self._per_second(self._me_load(system, server, accounts))
                        yield Sample("me", f"{dialect}, {_count(workers)}", system.label, value, "requests/s")

    def single(self) -> Iterable[Sample]:
        """The same with one connection and one worker: what a request takes."""
        for dialect in databases.DIALECTS:
            for system in self._turns(_that_can((PLUGGABLE, UNRESET, FLOOR), dialect, 1)):
                url, accounts = self._database(system, dialect)
                with serving(system.app, url, **system.environment) as server:
                    load = system.me(server.port, accounts, connections=1, seconds=self._length.seconds)
                    yield Sample("single", dialect, system.label, self._per_second(load), "requests/s")

    def refresh(self) -> Iterable[Sample]:
        """Refreshes per second, each of the token that the one before gave."""
        for dialect in databases.DIALECTS:
            for workers in self._length.workers:
                for system in self._turns((PLUGGABLE, FLOOR)):
                    url, _ = self._database(system, dialect)
                    with serving(system.app, url, workers, **system.environment) as server:
                        value = self._per_second(self._refresh_load(system, server, dialect))
                        yield Sample(
                            "refresh", f"{dialect}, {_count(workers)}", system.label, value, "requests/s"
                        )

    def login(self) -> Iterable[Sample]:
        """Logins per second, beside what the cores can hash."""
        for _ in range(self._length.rounds):
            yield Sample("login", "-", "cores / bcrypt time", _hashes_per_second(), "logins/s")
        for system in self._turns((PLUGGABLE, USERS_JWT, AUTHX)):
            url, accounts = self._database(system, "postgres")
            with serving(system.app, url, 1, **system.environment) as server:
                load = system.logins(
                    server.port, accounts, connections=CONNECTIONS, seconds=2 * self._length.seconds
                )
                (outcome,) = put_under(load)
                _check(outcome.statuses)
                yield Sample("login", "-", system.label, outcome.per_second, "logins/s")

    def storm(self) -> Iterable[Sample]:
        """The 99th percentile of `/auth/me`, at rest and while clients log in without pause; and the memory
        of the worker before and after."""
        seconds = 2 * self._length.seconds
        for system in self._turns((PLUGGABLE, USERS_DATABASE, USERS_JWT, AUTHX)):
            url, accounts = self._database(system, "postgres")
            with serving(system.app, url, 1, **system.environment) as server:
                yield Sample("memory", "idle", system.label, server.memory(), "MiB")
                put_under(self._me_load(system, server, accounts, 1))
                probe = system.me(
                    server.port,
                    accounts,
                    connections=8,
                    seconds=seconds,
                    rate=PROBES_PER_SECOND,
                    after=GATHERING_SECONDS,
                )
                logins = system.logins(
                    server.port, accounts, connections=CONNECTIONS, seconds=GATHERING_SECONDS + seconds
                )
                (rest,) = put_under(probe)
                stormed, _ = put_under(probe, logins)
                yield Sample("p99", "at rest", system.label, rest.p99, "ms")
                yield Sample("p99", "while 32 clients log in", system.label, stormed.p99, "ms")
                yield Sample("memory", "after the storm", system.label, server.memory(), "MiB")

    def contended(self) -> Iterable[Sample]:
        """Logins per second while others ask who they are, as fast as they are answered: the others go on
        until the last login is answered."""
        seconds = self._length.seconds
        for _ in range(self._length.rounds):
            yield Sample("contended", "-", "cores / bcrypt time", _hashes_per_second(), "logins/s")
        for system in self._turns((PLUGGABLE, USERS_JWT, AUTHX)):
            url, accounts = self._database(system, "postgres")
            with serving(system.app, url, **system.environment) as server:
                logins, _ = put_under(
                    system.logins(server.port, accounts, connections=8, seconds=2 * seconds),
                    self._me_load(system, server, accounts, 3 * seconds),
                )
                good = logins.statuses.get("200", 0) / sum(logins.statuses.values())
                yield Sample("contended", "-", system.label, good * logins.per_second, "logins/s")

    def signups(self) -> Iterable[Sample]:
        """The memory of a worker with every feature of the demo, before and after a thousand signups."""
        url, _ = self._database(COMPLETE, "postgres", 1_000)
        for _ in range(2):
            with serving(COMPLETE.app, url, **COMPLETE.environment) as server:
                yield Sample("signups", "idle", COMPLETE.label, server.memory(), "MiB")
                for seconds, rate, setting in ((1, 1, "after the first"), (20, 50, "after a thousand")):
                    emails = (f"{secrets.token_hex(8)}@example.com" for _ in range(2 * seconds * rate))
                    bodies = [{"email": email, "password": PASSWORD} for email in emails]
                    load = Load(server.port, "POST", "/auth/signup", 1, seconds, bodies=bodies, rate=rate)
                    (outcome,) = put_under(load)
                    _check(outcome.statuses, "201")
                    yield Sample("signups", setting, COMPLETE.label, server.memory(), "MiB")

    def soak(self) -> Iterable[Sample]:
        """The memory of a worker under a mixed load, over ten minutes."""
        system, dialect = PLUGGABLE, "postgres"
        url, accounts = self._database(system, dialect)
        slice_seconds = self._length.soak_seconds / 10
        with serving(system.app, url, 1) as server:
            for part in range(11):
                if part:
                    put_under(
                        system.me(server.port, accounts, connections=8, seconds=slice_seconds, rate=200),
                        system.logins(server.port, accounts, connections=2, seconds=slice_seconds),
                        self._refresh_load(system, server, dialect, slice_seconds, 4),
                    )
                minutes = f"{part * slice_seconds / 60:.0f} min"
                yield Sample("soak", minutes, system.label, server.memory(), "MiB")

    def start(self) -> Iterable[Sample]:
        """Seconds from the start of the process to the first answer."""
        url, _ = self._database(PLUGGABLE, "sqlite")
        for _ in range(self._length.rounds):
            for app, label in (("bare", "FastAPI and Tortoise"), (PLUGGABLE.app, PLUGGABLE.label)):
                with serving(app, url) as server:
                    yield Sample("start", "first answer", label, server.first_answer, "s")

    def growth(self) -> Iterable[Sample]:
        """The same with more users, sessions and refresh tokens."""
        system = PLUGGABLE
        for dialect in databases.DIALECTS:
            for users in self._turns(self._length.growth):
                url, accounts = self._database(system, dialect, users)
                with serving(system.app, url) as server:
                    setting = f"{dialect}, {users:,} users"
                    me = self._per_second(self._me_load(system, server, accounts))
                    yield Sample("growth: me", setting, system.label, me, "requests/s")
                    refresh = self._per_second(self._refresh_load(system, server, dialect, users=users))
                    yield Sample("growth: refresh", setting, system.label, refresh, "requests/s")
                    (login,) = put_under(
                        system.logins(server.port, accounts, connections=8, seconds=self._length.seconds)
                    )
                    yield Sample("growth: login", setting, system.label, login.per_second, "logins/s")

    def figures(self) -> dict[str, Callable[[], Iterable[Sample]]]:
        """All of them, by name."""
        every = (
            *(self.me, self.single, self.refresh, self.login, self.storm, self.contended, self.signups),
            *(self.start, self.growth, self.soak),
        )
        return {figure.__name__: figure for figure in every}

    def _turns(self, measured: tuple[T, ...]) -> Iterable[T]:
        chosen = self._length.systems
        measured = tuple(
            each for each in measured if not (chosen and isinstance(each, System) and each.name not in chosen)
        )
        for round_number in range(self._length.rounds):
            yield from measured if round_number % 2 == 0 else reversed(measured)

    def _database(self, system: System, dialect: str, users: int | None = None) -> tuple[str, Accounts]:
        key = (system.name, dialect, users or self._length.users)
        if key not in self._filled:
            url = asyncio.run(databases.create(dialect, f"{system.name}_{key[2]}", self._folder))
            self._filled[key] = url, asyncio.run(system.fill(url, key[2]))
        return self._filled[key]

    def _me_load(
        self, system: System, server: Server, accounts: Accounts, seconds: float | None = None
    ) -> Load:
        return system.me(
            server.port, accounts, connections=CONNECTIONS, seconds=seconds or self._length.seconds
        )

    def _refresh_load(
        self,
        system: System,
        server: Server,
        dialect: str,
        seconds: float | None = None,
        sessions: int = CONNECTIONS,
        users: int | None = None,
    ) -> Load:
        """Sessions that have not refreshed before."""
        key = (system.name, dialect, users or self._length.users)
        _, accounts = self._database(system, dialect, users)
        begin = self._used[key]
        self._used[key] += sessions
        tokens = accounts.refresh_tokens[begin : begin + sessions]
        return system.refreshes_of(server.port, tokens, seconds=seconds or self._length.seconds)

    def _per_second(self, load: Load) -> float:
        (outcome,) = put_under(load)
        _check(outcome.statuses)
        return outcome.per_second


def _that_can(systems: Iterable[System], dialect: str, workers: int) -> tuple[System, ...]:
    return tuple(system for system in systems if dialect in system.dialects and workers in system.workers)


def _check(statuses: dict[str, int], right: str = "200") -> None:
    if set(statuses) != {right}:
        raise RuntimeError(f"A system did not answer as it should: {statuses}")


def _count(workers: int) -> str:
    return f"{workers} worker{'s' if workers > 1 else ''}"


def _hashes_per_second() -> float:
    """How many passwords of cost 12 the cores check, each core at the speed that one has alone."""
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(12))
    times = []
    for _ in range(5):
        started = time.perf_counter()
        bcrypt.checkpw(PASSWORD.encode(), hashed)
        times.append(time.perf_counter() - started)
    return (os.cpu_count() or 1) / statistics.median(times)
