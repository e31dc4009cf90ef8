"""How long rows live: what expires, and what ends with access. A feature uses these for its tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto
from typing import Any, Final

from tortoise import Model
from tortoise.expressions import Q

from ..config import AuthSettings


class End(Enum):
    """Why access ends."""

    LOGOUT = auto()
    OTHERS = auto()
    """All sessions but the one that asks."""
    SESSION = auto()
    """These sessions alone."""
    SECOND_FACTOR = auto()
    """Two-factor was switched on or off."""
    EMAIL_CHANGED = auto()
    PASSWORD_CHANGED = auto()
    REUSE = auto()
    """A refresh token was stolen."""
    RIGHTS_TAKEN = auto()
    RESET = auto()
    """A new password was set by mail."""
    CLAIM = auto()
    """The owner of the mailbox takes over what somebody else may have begun."""
    VERIFIED = auto()
    """The address was verified, and not in the browser that signed up: what signs in stays, what was begun
    with it ends."""
    ADMINISTRATOR = auto()
    """An administrator ended all sessions, or asked for a new password."""
    DISABLED = auto()
    DELETED = auto()


class Reach(Enum):
    """Which rows end, by the session that they belong to."""

    NONE = auto()
    THESE = auto()
    """Those of the sessions that are named."""
    OTHERS = auto()
    """All but those; also what belongs to no session that is known."""
    ALL = auto()


ALL_ACCESS: Final[Mapping[End, Reach]] = dict.fromkeys(
    (End.RESET, End.CLAIM, End.VERIFIED, End.ADMINISTRATOR, End.DISABLED, End.DELETED), Reach.ALL
)
"""The ends that leave nothing by which anybody gets in, as somebody else may have made it."""

HELD: Final[Mapping[End, Reach]] = dict.fromkeys((End.RESET, End.ADMINISTRATOR, End.DISABLED), Reach.ALL)
"""The ends that leave ways in which may be all that the owner has, and let none be used before the owner has
looked at them."""

BEGUN_CHANGES: Final[Mapping[End, Reach]] = {
    **ALL_ACCESS,
    End.LOGOUT: Reach.ALL,
    End.OTHERS: Reach.OTHERS,
    End.SESSION: Reach.THESE,
    End.SECOND_FACTOR: Reach.ALL,
    End.EMAIL_CHANGED: Reach.ALL,
    End.PASSWORD_CHANGED: Reach.ALL,
    End.REUSE: Reach.THESE,
}
"""What a change that waits for its second step dies of, by the session that it was begun in."""


@dataclass(frozen=True, eq=False, slots=True)
class Expired:
    """Rows for the purge: those of `table` that the condition holds for, given the time and the settings."""

    table: type[Model]
    rows: Callable[[datetime, AuthSettings], Q]


@dataclass(frozen=True, eq=False, slots=True)
class AccessEnded:
    """Rows of `table` that die with access. `reach` says which, by kind of end: none where it does not name
    that. `user` is the column of the user; `session`, without which they end all or none, that of the session
    that they belong to; `where` leaves others out. They are deleted, or where `change` gives columns for this
    time, changed."""

    table: type[Model]
    reach: Mapping[End, Reach]
    user: str = "user_id"
    session: str | None = None
    where: Q = field(default_factory=Q)
    change: Callable[[datetime], Mapping[str, Any]] | None = None
