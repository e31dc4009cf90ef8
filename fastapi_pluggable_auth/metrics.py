"""Metrics for Prometheus, of the extra `metrics`: `prometheus(auth)`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Container
from math import nan
from typing import Any, Final

from starlette.responses import Response

from .auth import Auth
from .errors import AuthError
from .events import EventKind, Outcome, SecurityEvent
from .measurements import HashingRefused, MailGivenUp, MailSent, PasswordHashed, Purged
from .readiness import LIMIT

try:
    from prometheus_client import (
        CONTENT_TYPE_LATEST,
        REGISTRY,
        CollectorRegistry,
        Counter,
        Gauge,
        Histogram,
        generate_latest,
    )
    from prometheus_client.multiprocess import MultiProcessCollector
except ImportError as error:
    raise ImportError(
        "Metrics need prometheus-client: pip install 'fastapi-pluggable-auth[metrics]'"
    ) from error

OTHER: Final = "other"
"""The value of a label for what the library has no name for, such as a code of the app's own refusals."""
SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
MAIL_SECONDS: Final = (1, 5, 15, 60, 300, 900, 3600, 21600, 86400)


def prometheus(auth: Auth[Any], *, registry: CollectorRegistry = REGISTRY) -> Prometheus:
    """Counts what the app does in a registry, from now on. Once for each app: raises `ValueError` where the
    registry has such metrics."""
    return Prometheus(auth, registry)


class Prometheus:
    """The metrics of one app. Values of labels are names of the library and of the app's features: what
    clients send makes none."""

    def __init__(self, auth: Auth[Any], registry: CollectorRegistry) -> None:
        self._auth, self._registry = auth, registry
        self._events = Counter(
            "auth_events_total", "Security events.", ("event", "outcome", "reason"), registry=registry
        )
        self._waiting = Gauge(
            "auth_hashing_waiting",
            "Calls that wait for a thread that hashes passwords.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._refused = Counter(
            "auth_hashing_refused_total", "Requests that the full queue turned away.", registry=registry
        )
        self._waited = Histogram(
            "auth_hashing_wait_seconds", "Waiting for a thread.", buckets=SECONDS, registry=registry
        )
        self._took = Histogram(
            "auth_hashing_seconds", "Hashing or comparing a password.", buckets=SECONDS, registry=registry
        )
        self._sent = Histogram(
            "auth_mail_delivery_seconds",
            "From writing a mail until the mail server has taken it.",
            ("kind",),
            buckets=MAIL_SECONDS,
            registry=registry,
        )
        self._given_up = Counter("auth_mails_given_up_total", "Dead mails.", ("kind",), registry=registry)
        self._outbox = Gauge(
            "auth_outbox_mails",
            "Mails in the database that have not gone; NaN where it did not answer.",
            ("state",),
            multiprocess_mode="mostrecent",
            registry=registry,
        )
        self._oldest = Gauge(
            "auth_outbox_oldest_seconds",
            "Age of the oldest mail that is to go; NaN where the database did not answer.",
            multiprocess_mode="mostrecent",
            registry=registry,
        )
        self._database = Gauge(
            "auth_database_up",
            "Whether the database has answered this scrape.",
            multiprocess_mode="mostrecent",
            registry=registry,
        )
        self._purged_at = Gauge(
            "auth_purge_timestamp_seconds",
            "When expired rows were deleted last, Unix time.",
            multiprocess_mode="max",
            registry=registry,
        )
        self._purged = Counter("auth_purged_rows_total", "Deleted rows.", ("table",), registry=registry)
        self._begin()
        auth.on(SecurityEvent)(self._note_event)
        auth.on(PasswordHashed)(self._note_hash)
        auth.on(HashingRefused)(self._note_refusal)
        auth.on(MailSent)(self._note_mail)
        auth.on(MailGivenUp)(self._note_dead)
        auth.on(Purged)(self._note_purge)

    async def response(self) -> Response:
        """The answer to a scrape: all of the registry, or of all workers where `PROMETHEUS_MULTIPROC_DIR` is
        set. The database has two seconds to say how the outbox stands; without it the rest is answered."""
        await self.refresh()
        shown = self._registry
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            shown = CollectorRegistry()
            MultiProcessCollector(shown)  # type: ignore[no-untyped-call]  # it has no types
        # In a thread: the files of many workers, or the collectors of the app, may take their time.
        return Response(await asyncio.to_thread(generate_latest, shown), media_type=CONTENT_TYPE_LATEST)

    async def refresh(self) -> None:
        """Reads how the outbox stands, within two seconds, for a route of the app that answers with the
        registry itself. Raises nothing for a database that fails."""
        self._waiting.set(self._auth.hasher.waiting)
        try:
            figures = await self._auth.with_deadline(self._auth.outbox.figures(), LIMIT)
        except AuthError:
            self._database.set(0)
            self._show_outbox(nan, nan, nan, nan)
            return
        age = 0.0 if figures.oldest is None else (self._auth.clock() - figures.oldest).total_seconds()
        self._database.set(1)
        self._show_outbox(figures.waiting, figures.under_way, figures.dead, age)

    def _show_outbox(self, waiting: float, under_way: float, dead: float, oldest: float) -> None:
        for state, mails in (("waiting", waiting), ("under_way", under_way), ("dead", dead)):
            self._outbox.labels(state).set(mails)
        self._oldest.set(oldest)

    def _begin(self) -> None:
        """What may happen once and never again is there before: the rise to 1 would else not be seen."""
        for kind in self._auth.features.events:
            self._events.labels(kind, Outcome.SUCCESS.value, "")
        self._events.labels(EventKind.REFRESH_REUSE.value, Outcome.FAILURE.value, "")
        for mail in self._auth.outbox.kinds:
            self._given_up.labels(mail)

    def _note_event(self, event: SecurityEvent) -> None:
        features = self._auth.features
        reason = "" if event.reason is None else _known(event.reason, features.errors)
        kind = _known(event.kind.value, features.events)
        self._events.labels(kind, event.outcome.value, reason).inc()

    def _note_hash(self, hashed: PasswordHashed) -> None:
        self._waiting.set(self._auth.hasher.waiting)
        self._waited.observe(hashed.waited)
        self._took.observe(hashed.took)

    def _note_refusal(self, _: HashingRefused) -> None:
        self._waiting.set(self._auth.hasher.waiting)
        self._refused.inc()

    def _note_mail(self, mail: MailSent) -> None:
        self._sent.labels(_known(mail.kind, self._auth.outbox.kinds)).observe(mail.waited)

    def _note_dead(self, mail: MailGivenUp) -> None:
        self._given_up.labels(_known(mail.kind, self._auth.outbox.kinds)).inc()

    def _note_purge(self, purged: Purged) -> None:
        self._purged_at.set(self._auth.clock().timestamp())
        for table, rows in purged.rows.items():
            self._purged.labels(table).inc(rows)


def _known(name: str, names: Container[str]) -> str:
    return name if name in names else OTHER
