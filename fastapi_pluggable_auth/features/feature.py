"""What a feature is: one frozen value that holds everything that it brings to an app."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from tortoise import Model

from ..errors import ErrorCode, ErrorTable
from ..events import EventKind, EventTable
from ..hooks import Event
from ..models import AccessEnded, Expired

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Feature:
    """What an app can have beside accounts. The kernel asks these fields; a feature changes nothing else, and
    importing its module does nothing.

    `name` is in snake_case. `requires` names other features that it needs. `errors` are the codes that its
    flows and routes refuse with, `events` the kinds of security events that it tells. `hooks` are its own
    handlers: each is called with the `Auth` and an event of its class, before those of the app. Classes of
    hooks need no entry: a feature fires its own, and `auth.on` takes them.

    `tables` are concrete models, each after those that it refers to; `auth.tables.of(Note)` is the app's.
    Those of a host are under its own label, with its own migrations.
    `expired` says which rows the purge deletes, `access_ended` which die when access ends.
    """

    name: str
    requires: tuple[str, ...] = ()
    errors: type[ErrorTable] | None = None
    events: type[EventTable] | None = None
    hooks: tuple[tuple[type[Event], Callable[[Any, Any], object]], ...] = ()
    tables: tuple[type[Model], ...] = ()
    expired: tuple[Expired, ...] = ()
    access_ended: tuple[AccessEnded, ...] = ()


class Features:
    """The features of one app.

    Raises `ValueError` where two have one name, or bring something of one name, and where one requires
    another that the app does not have.
    """

    def __init__(self, features: Iterable[Feature] = ()) -> None:
        self._all = tuple(features)
        names = self.merged("name", lambda feature: [feature.name])
        for feature in self._all:
            for name in feature.requires:
                if name not in names:
                    raise ValueError(f"The feature {feature.name} requires {name}: add that one as well.")
        self.errors: Mapping[str, ErrorTable] = self.merged(
            "error code", lambda feature: feature.errors or (), kernel=ErrorCode, key=lambda code: code.code
        )
        """Every code of the app, by its name on the wire."""
        self.events: Mapping[str, EventTable] = self.merged(
            "security event", lambda feature: feature.events or (), kernel=EventKind
        )
        """Every kind of security event of the app, by its name on the wire."""

    def __iter__(self) -> Iterator[Feature]:
        return iter(self._all)

    def __contains__(self, name: object) -> bool:
        """Whether the app has a feature of this name."""
        return any(feature.name == name for feature in self._all)

    def merged(
        self,
        what: str,
        brought: Callable[[Feature], Iterable[T]],
        *,
        kernel: Iterable[T] = (),
        key: Callable[[T], str] = str,
    ) -> dict[str, T]:
        """What the kernel has and the features bring, by key. `what` is the word for one of these in the
        error: raises `ValueError` where two have the same key."""
        found: dict[str, T] = {}
        owners: dict[str, str] = {}
        for owner, values in [
            ("the library", kernel),
            *((f"the feature {feature.name}", brought(feature)) for feature in self._all),
        ]:
            for value in values:
                name = key(value)
                if name in found:
                    raise ValueError(f"The {what} {name!r} is that of {owners[name]} and of {owner}.")
                found[name], owners[name] = value, owner
        return found
