"""The statements of the hot paths, for the tables of one app."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from tortoise.manager import Manager

from .compiled import Insert, Row, Select, Statement, value
from .models import AbstractUser, PersonalToken, Tables


class Read(Protocol):
    """A query of one row."""

    async def first(self, **values: object) -> Row | None:
        """What the row says, or None."""


class _OfExisting:
    """A read of what belongs to a user, where the host's own `Manager` says who exists: a join knows nothing
    of it, and its condition may change from request to request."""

    def __init__(
        self, read: Read, users: type[AbstractUser], hidden: Callable[[Row], Row | None] = lambda _: None
    ) -> None:
        self._read, self._users, self._hidden = read, users, hidden

    async def first(self, **values: object) -> Row | None:
        """What the row says, or what it says of a user who does not exist."""
        found = await self._read.first(**values)
        if found is None or await self._users.exists(id=found["user_id"]):
            return found
        return self._hidden(found)


class Queries:
    """What a request of a signed-in user, and a refresh, ask the database."""

    def __init__(self, tables: Tables[Any]) -> None:
        self.session: Read = Select(
            tables.session,
            ("id", "user_id"),
            (
                *("id", "user_id", "authenticated_at", "expires_at", "revoked_at"),
                *("impersonated_by", "begun_in", "confirmed_gen", "superseded"),
            ),
            whole="user",
        )
        """The state of a session of a user, and the `user`."""
        self.personal_token: Read = Select(
            tables.of(PersonalToken),
            ("digest",),
            ("id", "user_id", "digest", "scopes", "expires_at", "last_used_at"),
            whole="user",
        )
        """The state of a personal access token, and its `user`."""
        self.refresh_token: Read = Select(
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
        )
        """A refresh token, with what its user and session say of it."""
        if type(tables.user._meta.manager) is not Manager:
            self.session = _OfExisting(self.session, tables.user)
            self.personal_token = _OfExisting(self.personal_token, tables.user)
            self.refresh_token = _OfExisting(
                self.refresh_token, tables.user, lambda row: {**row, "active": False}
            )
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
