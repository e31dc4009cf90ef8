"""The tables of the OAuth server: clients, what users have allowed them, and their tokens."""

from __future__ import annotations

import hashlib
import uuid
from datetime import datetime, timedelta
from typing import Any, Final

from tortoise import Model, fields
from tortoise.expressions import Q
from tortoise.fields.base import OnDelete

from ...config import AuthSettings
from ...models.columns import NamesField
from ...models.lifetimes import ALL_ACCESS, AccessEnded, Expired
from ...models.moments import MomentField
from ...models.outward import Outward
from ...models.user import User

CLIENT_ID_LENGTH: Final = 255
ADDRESSES_LENGTH: Final = 4096

OPERATOR: Final = "operator"
"""A client that the operator has registered."""
DOCUMENT: Final = "document"
"""One that is known by the address of its document."""

CODE: Final = "code"
ACCESS: Final = "access"
REFRESH: Final = "refresh"


def digest_of(value: str) -> str:
    """What finds a client by its id, and a token by its secret."""
    return hashlib.sha256(value.encode()).hexdigest()


class AbstractOAuthClient(Outward, Model):
    """An application that users let in. `client_id` is random, or the https address of its document
    (`origin`); `digest` finds it. `scopes` are those that it may ask for, None for all; without a
    `secret_digest` it is public (RFC 6749 section 2.1). Of a document, `fetched_at` says when it was read,
    and `fresh_until` when it has to be read again."""

    _withheld = frozenset({"digest", "secret_digest"})

    id = fields.UUIDField(primary_key=True, default=uuid.uuid4)
    client_id = fields.CharField(max_length=CLIENT_ID_LENGTH)
    digest = fields.CharField(max_length=64, unique=True)
    name = fields.CharField(max_length=64)
    client_uri = fields.CharField(max_length=255, null=True)
    redirect_uris = NamesField(max_length=ADDRESSES_LENGTH)
    scopes: frozenset[str] | None = NamesField(  # type: ignore[assignment]
        null=True, default=None, db_default=None
    )
    secret_digest = fields.CharField(max_length=64, null=True)
    origin = fields.CharField(max_length=16, default=OPERATOR)
    fetched_at: datetime | None = MomentField(null=True)
    fresh_until: datetime | None = MomentField(null=True)
    disabled_at: datetime | None = MomentField(null=True)
    last_used_at: datetime | None = MomentField(null=True)
    created_at = MomentField(auto_now_add=True)

    class Meta:
        abstract = True


class OAuthClient(AbstractOAuthClient):
    """An application that users let in."""

    class Meta:
        table = "auth_oauth_client"


class AbstractOAuthGrant(Outward, Model):
    """What a user has allowed a client, once: each installation of it has its own. `resources` are absolute
    addresses. `expires_at` moves with each use, until `oauth_grant_max_age` after `authorized_at`."""

    id = fields.UUIDField(primary_key=True, default=uuid.uuid4)
    user: Any
    user_id: uuid.UUID
    client: Any
    client_id: uuid.UUID
    scopes = NamesField()
    resources = NamesField(max_length=ADDRESSES_LENGTH)
    expires_at: datetime = MomentField(db_index=True)
    authorized_at: datetime = MomentField()
    last_used_at: datetime | None = MomentField(null=True)
    created_at = MomentField(auto_now_add=True)

    class Meta:
        abstract = True


class OAuthGrant(AbstractOAuthGrant):
    """What a `User` has allowed a client."""

    user: fields.ForeignKeyRelation[User] = fields.ForeignKeyField(
        User, related_name="auth_oauth_grants", on_delete=OnDelete.CASCADE, db_index=True
    )
    client: fields.ForeignKeyRelation[OAuthClient] = fields.ForeignKeyField(
        OAuthClient, related_name="auth_oauth_grants", on_delete=OnDelete.CASCADE, db_index=True
    )

    class Meta:
        table = "auth_oauth_grant"


class AbstractOAuthToken(Outward, Model):
    """A code, access token or refresh token (`kind`) of a grant, as its digest. `details` is what a code is
    bound to, in JSON. `parent` is the digest of the code or refresh token that was spent for it and another
    one, and `attempt` how often the answer to that was lost before; a `superseded` one was in such an answer.
    `used_at` is when one of the two was last shown."""

    _withheld = frozenset({"digest", "details", "parent"})

    id = fields.UUIDField(primary_key=True, default=uuid.uuid4)
    user: Any
    user_id: uuid.UUID
    grant: Any
    grant_id: uuid.UUID
    kind = fields.CharField(max_length=8)
    digest = fields.CharField(max_length=64, unique=True)
    scopes = NamesField()
    resources = NamesField(max_length=ADDRESSES_LENGTH)
    details = fields.TextField(null=True)
    parent = fields.CharField(max_length=64, null=True, db_index=True)
    attempt = fields.IntField(default=0)
    superseded = fields.BooleanField(default=False)
    expires_at: datetime = MomentField(db_index=True)
    spent_at: datetime | None = MomentField(null=True)
    used_at: datetime | None = MomentField(null=True)
    created_at = MomentField(auto_now_add=True)

    class Meta:
        abstract = True


class OAuthToken(AbstractOAuthToken):
    """A token by which a client acts for a `User`."""

    user: fields.ForeignKeyRelation[User] = fields.ForeignKeyField(
        User, related_name="auth_oauth_tokens", on_delete=OnDelete.CASCADE, db_index=True
    )
    grant: fields.ForeignKeyRelation[OAuthGrant] = fields.ForeignKeyField(
        OAuthGrant, related_name="auth_tokens", on_delete=OnDelete.CASCADE, db_index=True
    )

    class Meta:
        table = "auth_oauth_token"


STALE: Final = timedelta(days=7)
"""For how long a document serves while its host is down."""
UNUSED: Final = timedelta(hours=1)
"""For how long one is kept whose client no user has let in: anybody may have had many read."""


def _never_used(now: datetime, _: AuthSettings) -> Q:
    """Documents that anybody may have had read, and whose client no user has let in. What is disabled stays
    so."""
    return Q(origin=DOCUMENT, last_used_at=None, disabled_at=None, fetched_at__lt=now - UNUSED)


EXPIRED: Final = (
    # A code stays as long as its grant, so that a replay ends that.
    Expired(OAuthToken, lambda now, _: Q(expires_at__lt=now, kind__in=(ACCESS, REFRESH))),
    Expired(OAuthGrant, lambda now, _: Q(expires_at__lt=now)),
    Expired(OAuthClient, _never_used),
)
ACCESS_ENDED: Final = AccessEnded(OAuthGrant, ALL_ACCESS)
"""Their tokens go with them."""
