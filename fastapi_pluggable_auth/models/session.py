"""Sign-ins, and the refresh tokens that keep them alive."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any, Final, Self

from tortoise import Model, fields
from tortoise.fields.base import OnDelete

from ..security.clock import utc_now
from ..security.jwt import new_token_id
from .columns import TokenDigestField
from .moments import MomentField
from .outward import Outward
from .user import User

SUPERSEDED_LENGTH: Final = 1024
"""Room for a client that loses every other answer as fast as that can be noticed, each 10 s, for the 15
minutes that an access token lasts."""

FACTORS_LENGTH: Final = 255


class AbstractSession(Outward, Model):
    """One sign-in on one device: the family of its refresh tokens. `revoked_at` ends it at once. In one that
    is `impersonated_by` an administrator, who acts as the user; it was `begun_in` the administrator's
    session.

    `confirmed_gen` is the highest generation of tokens that a request has shown, or that nobody may show any
    more: `superseded` has those that were replaced unseen and whose access tokens have not expired.

    `factors` are those that the user has shown in it, divided by blanks; where the host has opened it, they
    may be none.
    """

    id = fields.UUIDField(primary_key=True, default=uuid.uuid4)
    user: Any
    user_id: uuid.UUID
    authenticated_at = MomentField()
    expires_at = MomentField(db_index=True)
    revoked_at = MomentField(null=True)
    user_agent = fields.CharField(max_length=255, default="")
    address = fields.CharField(max_length=45, default="")
    impersonated_by = fields.UUIDField(null=True, db_index=True)
    begun_in = fields.UUIDField(null=True, db_index=True)
    confirmed_gen = fields.IntField(default=0, db_default=0)
    superseded = fields.CharField(max_length=SUPERSEDED_LENGTH, default="", db_default="")
    factors = fields.CharField(max_length=FACTORS_LENGTH, default="", db_default="")
    created_at = MomentField(auto_now_add=True)

    class Meta:
        abstract = True


class AbstractRefreshToken(Outward, Model):
    """One refresh token. `revoked`: spent, or its session has ended; `rotated_at`: spent; `superseded`:
    replaced, as the answer with it was lost. `gen` counts the pairs of its session."""

    _withheld = frozenset({"token"})

    id = fields.UUIDField(primary_key=True, default=uuid.uuid4)
    user: Any
    user_id: uuid.UUID
    session: Any
    session_id: uuid.UUID | None
    token = TokenDigestField(unique=True)
    jti = fields.CharField(max_length=36, unique=True, default=new_token_id)
    expires_at = MomentField(db_index=True)
    revoked = fields.BooleanField(default=False)
    rotated_at = MomentField(null=True)
    replaced_by = fields.CharField(max_length=36, null=True)
    gen = fields.IntField(default=0, db_default=0)
    superseded = fields.BooleanField(default=False, db_default=False)
    created_at = MomentField(auto_now_add=True)

    class Meta:
        abstract = True

    @classmethod
    async def create_for(cls, user_id: uuid.UUID | str, token: str, ttl: timedelta) -> Self:
        """Stores a refresh token that a host app minted; `/auth/refresh` gives it a session on first use."""
        return await cls.create(user_id=user_id, token=token, expires_at=utc_now() + ttl)


class Session(AbstractSession):
    """A sign-in of a `User`."""

    user: fields.ForeignKeyRelation[User] = fields.ForeignKeyField(
        User, related_name="auth_sessions", on_delete=OnDelete.CASCADE, db_index=True
    )

    class Meta:
        table = "auth_session"


class RefreshToken(AbstractRefreshToken):
    """A refresh token of a `User`."""

    user: fields.ForeignKeyRelation[User] = fields.ForeignKeyField(
        User, related_name="refresh_tokens", on_delete=OnDelete.CASCADE, db_index=True
    )
    session: fields.ForeignKeyNullableRelation[Session] = fields.ForeignKeyField(
        Session, related_name="refresh_tokens", null=True, on_delete=OnDelete.CASCADE, db_index=True
    )
