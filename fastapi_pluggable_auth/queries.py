"""The queries of the hot paths, for the tables of one app."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Generic, Protocol, TypeAlias, TypeVar
from uuid import UUID

from tortoise.manager import Manager
from tortoise.queryset import QuerySet, UpdateQuery, ValuesQuery

from .compiled import Insert, SelectRelated, SelectValues, Update
from .models import AbstractUser, Tables

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

Row: TypeAlias = dict[str, Any]
UserRow: TypeAlias = tuple[Row, Any]


class Read(Protocol[R_co]):
    """A query of one row."""

    async def first(self, **values: object) -> R_co | None:
        """What the row says, or None."""


class _OfExisting(Generic[R]):
    """A read of what belongs to a user, where the host's own `Manager` says who exists: a join knows nothing
    of it, and its condition may change from request to request."""

    def __init__(
        self,
        read: Read[R],
        users: type[AbstractUser],
        owner: Callable[[R], UUID],
        hidden: Callable[[R], R | None] = lambda _: None,
    ) -> None:
        self._read, self._users, self._owner, self._hidden = read, users, owner, hidden

    async def first(self, **values: object) -> R | None:
        """What the row says, or what it says of a user who does not exist."""
        found = await self._read.first(**values)
        if found is None or await self._users.exists(id=self._owner(found)):
            return found
        return self._hidden(found)


def _owner(found: UserRow) -> UUID:
    owner: UUID = found[1].id
    return owner


class Queries:
    """What a request of a signed-in user, and a refresh, ask the database."""

    def __init__(self, tables: Tables) -> None:
        sessions, tokens = tables.session, tables.refresh_token
        personal_tokens = tables.personal_token

        def session_of(session_id: str, user_id: str) -> QuerySet[Any]:
            return sessions.filter(id=session_id, user_id=user_id).select_related("user")

        def stored(digest: str) -> ValuesQuery[Any]:
            return tokens.filter(token=digest).values(
                *("id", "token", "user_id", "session_id", "created_at", "expires_at", "rotated_at"),
                *("replaced_by", "gen", "superseded"),
                active="user__is_active",
                session_ends="session__expires_at",
                session_ended="session__revoked_at",
                confirmed_gen="session__confirmed_gen",
                impersonated_by="session__impersonated_by",
            )

        def personal(digest: str) -> QuerySet[Any]:
            return personal_tokens.filter(digest=digest).select_related("user")

        def spend(digest: str, now: datetime, successor: str) -> UpdateQuery:
            good = tokens.filter(token=digest, revoked=False, expires_at__gt=now)
            return good.update(revoked=True, rotated_at=now, replaced_by=successor)

        def confirm(session_id: str, gen: int) -> UpdateQuery:
            return sessions.filter(id=session_id, confirmed_gen__lt=gen).update(confirmed_gen=gen)

        self.session: Read[UserRow] = SelectRelated(
            sessions,
            session_of,
            (
                *("id", "user_id", "authenticated_at", "expires_at", "revoked_at"),
                *("impersonated_by", "begun_in", "confirmed_gen", "superseded"),
            ),
            session_id="id",
            user_id="user_id",
        )
        """The state of a session of a user, and the user."""
        self.personal_token: Read[UserRow] = SelectRelated(
            personal_tokens,
            personal,
            ("id", "user_id", "digest", "scopes", "expires_at", "last_used_at"),
            digest="digest",
        )
        """The state of a personal access token, and its user."""
        self.refresh_token: Read[Row] = SelectValues(tokens, stored, digest="token")
        """A refresh token, with what its user and session say of it."""
        if type(tables.user._meta.manager) is not Manager:
            self.session = _OfExisting[UserRow](self.session, tables.user, _owner)
            self.personal_token = _OfExisting[UserRow](self.personal_token, tables.user, _owner)
            self.refresh_token = _OfExisting[Row](
                self.refresh_token,
                tables.user,
                lambda row: row["user_id"],
                lambda row: {**row, "active": False},
            )
        self.spend = Update(tokens, spend, digest="token", now="rotated_at", successor="replaced_by")
        """Spends a refresh token, where it is good."""
        self.confirm = Update(sessions, confirm, session_id="id", gen="confirmed_gen")
        """Notes that tokens of this generation were shown, where it is not known yet."""
        self.store_token = Insert(
            tokens,
            *("id", "user_id", "session_id", "token", "jti", "expires_at", "revoked", "gen", "created_at"),
        )
        """Stores a refresh token."""
