"""Figures of the library's own work, for metrics: what `auth.on` hears beside hooks and security events."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ParamSpec

logger = logging.getLogger(__name__)

P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Measurement:
    """A figure, heard at once by functions that are not async and do nothing but note it. What one raises is
    logged and changes nothing."""


@dataclass(frozen=True, slots=True)
class PasswordHashed(Measurement):
    """A password was hashed or compared: the seconds that it waited for a thread, and those that it took."""

    waited: float
    took: float


@dataclass(frozen=True, slots=True)
class HashingRefused(Measurement):
    """A request was answered with `overloaded`: the queue for hashing was full."""


@dataclass(frozen=True, slots=True)
class MailSent(Measurement):
    """The mail server has taken a mail, `waited` seconds after it was written."""

    kind: str
    waited: float


@dataclass(frozen=True, slots=True)
class MailGivenUp(Measurement):
    """A mail is dead: refused for good, or older than `email_max_age`."""

    kind: str


@dataclass(frozen=True, slots=True)
class Purged(Measurement):
    """Expired rows were deleted, so many of each table."""

    rows: Mapping[str, int] = field(default_factory=dict)


class Measurements:
    """Who hears the figures of one app."""

    def __init__(self) -> None:
        self.handlers: list[tuple[type[Measurement], Callable[[Any], object]]] = []

    def add(self, kind: type[Measurement], handler: Callable[[Any], object]) -> None:
        """Calls a handler with each figure of this class, or of a class below it, from now on."""
        self.handlers.append((kind, handler))

    def report(self, kind: Callable[P, Measurement], /, *args: P.args, **values: P.kwargs) -> None:
        """Makes a figure of this class, where there is a handler for it, and calls one after the other.
        Never raises."""
        figure: Measurement | None = None
        for heard, handler in self.handlers:
            if not issubclass(kind, heard):  # type: ignore[arg-type]  # a class, which P hides
                continue
            figure = figure or kind(*args, **values)
            try:
                handler(figure)
            except Exception:
                logger.exception("What hears %s failed", type(figure).__name__)
