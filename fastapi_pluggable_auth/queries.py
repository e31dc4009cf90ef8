"""The statements of the hot paths, for the tables of one app."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from tortoise.manager import Manager

from .compiled import Insert, Row, Select, Statement, value
from .models import AbstractUser, Tables
from .shared_reads import SharedSelect


class Read(Protocol):
    """A query of one row."""

    async def first(self, **values: object) -> Row | None:
        """What the row says, or None."""


def of_existing(
    users: type[AbstractUser], read: Read, *, hidden: Callable[[Row], Row | None] = lambda _: None
) -> Read:
    """A read of what belongs to one of these users, where the host's own `Manager`, if there is one, says who
    exists. `hidden` makes what is said of a user who does not."""
    return read if type(users._meta.manager) is Manager else _OfExisting(users, read, hidden)


class _OfExisting:
    """See `of_existing`: a join knows nothing of the manager, whose condition may change from request to
    request."""

    def __init__(self, users: type[AbstractUser], read: Read, hidden: Callable[[Row], Row | None]) -> None:
        self._users, self._read, self._hidden = users, read, hidden

    async def first(self, **values: object) -> Row | None:
        """What the row says, or what it says of a user who does not exist."""
        found = await self._read.first(**values)
        if found is None or await self._users.exists(id=found["user_id"]):
            return found
        return self._hidden(found)


class Queries:
    """What a request of a signed-in user, and a refresh, ask the database."""

    def __init__(self, tables: Tables[Any]) -> None:
        self.session = of_existing(
            tables.user,
            SharedSelect(
                Select(
                    tables.session,
                    ("id", "user_id"),
                    (
                        *("id", "user_id", "authenticated_at", "expires_at", "revoked_at"),
                        *("impersonated_by", "begun_in", "confirmed_gen", "superseded", "factors"),
                    ),
                    whole="user",
                )
            ),
        )
        """The state of a session of a user, and the `user`."""
        self.refresh_token = of_existing(
            tables.user,
            Select(
                tables.refresh_token,
                ("token",),
                (
                    *("id", "token", "user_id", "session_id", "created_at", "expires_at", "rotated_at"),
                    *("replaced_by", "gen", "superseded"),
                ),
                active="user__is_active",
                session_ends="session__expires_at",
                session_ended="session__revoked_at",
                confirmed_gen="session__confirmed_gen",
                impersonated_by="session__impersonated_by",
                factors="session__factors",
            ),
            hidden=lambda row: {**row, "active": False},
        )
        """A refresh token, with what its user and session say of it."""
        self.spend = Statement(
            tables.refresh_token,
            lambda query, tokens: (
                query.update(tokens)
                .set("revoked", True)
                .set("rotated_at", value("rotated_at"))
                .set("replaced_by", value("replaced_by"))
                .where(tokens.token == value("token"))
                .where(tokens.revoked == False)  # noqa: E712 - which the database compares
                .where(tokens.expires_at > value("rotated_at"))
            ),
        )
        """Spends a refresh token, `rotated_at` now, where it is good."""
        self.confirm = Statement(
            tables.session,
            lambda query, sessions: (
                query.update(sessions)
                .set("confirmed_gen", value("confirmed_gen"))
                .where(sessions.id == value("id"))
                .where(sessions.confirmed_gen < value("confirmed_gen"))
            ),
        )
        """Notes that tokens of this generation were shown, where it is not known yet."""
        self.store_token = Insert(
            tables.refresh_token,
            *("id", "user_id", "session_id", "token", "jti", "expires_at", "revoked", "gen", "created_at"),
        )
        """Stores a refresh token."""
