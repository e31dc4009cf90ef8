"""The tables of the OAuth server: clients, what users have allowed them, their tokens, and devices that
wait to be allowed."""

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
REGISTERED: Final = "registered"
"""One that has registered itself (RFC 7591)."""

AUTHORIZATION_CODE: Final = "authorization_code"
DEVICE_CODE: Final = "urn:ietf:params:oauth:grant-type:device_code"
CLIENT_CREDENTIALS: Final = "client_credentials"

CODE: Final = "code"
DEVICE: Final = "device"
ACCESS: Final = "access"
REFRESH: Final = "refresh"


def by_code() -> frozenset[str]:
    """The grant types of a client that says none. It has a name, as `makemigrations` writes it down."""
    return frozenset({AUTHORIZATION_CODE})


def digest_of(value: str) -> str:
    """What finds a client by its id, and a token by its secret."""
    return hashlib.sha256(value.encode()).hexdigest()


class AbstractOAuthClient(Outward, Model):
    """An application that users let in. `client_id` is random, or the https address of its document
    (`origin`); `digest` finds it. `scopes` are those that it may ask for, None for all; without a
    `secret_digest` it is public (RFC 6749 section 2.1). `grant_types` are how it may ask for tokens, all but
    by a refresh token. One that has registered itself changes that by the token of `registration_digest`. Of
    a document, `fetched_at` says when it was read, and `fresh_until` when it has to be read again."""

    _withheld = frozenset({"digest", "secret_digest", "registration_digest"})

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
    grant_types = NamesField(default=by_code, db_default=f" {AUTHORIZATION_CODE} ")
    post_logout_redirect_uris = NamesField(max_length=ADDRESSES_LENGTH)
    registration_digest = fields.CharField(max_length=64, null=True)
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
    """A code, device code, access token or refresh token (`kind`) of a grant, as its digest. `details` is
    what a code is bound to, in JSON. `parent` is the digest of what was spent for it and another one, and
    `attempt` how often the answer to that was lost before; a `superseded` one was in such an answer.
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


class AbstractOAuthDevice(Outward, Model):
    """A device that waits until a user allows it something (RFC 8628), found by the `digest` of its device
    code and that of the code that the user types. `user` is who has typed that. Once it is allowed, its
    device code is a token of the grant. It is asked for every `interval` seconds at most."""

    _withheld = frozenset({"digest", "user_code_digest"})

    id = fields.UUIDField(primary_key=True, default=uuid.uuid4)
    user: Any
    user_id: uuid.UUID | None
    client: Any
    client_id: uuid.UUID
    digest = fields.CharField(max_length=64, unique=True)
    user_code_digest = fields.CharField(max_length=64, unique=True)
    scopes = NamesField()
    resources = NamesField(max_length=ADDRESSES_LENGTH)
    interval = fields.IntField(default=5)
    asked_at: datetime | None = MomentField(null=True)
    allowed_at: datetime | None = MomentField(null=True)
    denied_at: datetime | None = MomentField(null=True)
    expires_at: datetime = MomentField(db_index=True)
    created_at = MomentField(auto_now_add=True)

    class Meta:
        abstract = True


class OAuthDevice(AbstractOAuthDevice):
    """A device that waits until a `User` allows it something."""

    user: fields.ForeignKeyNullableRelation[User] = fields.ForeignKeyField(
        User, related_name="auth_oauth_devices", on_delete=OnDelete.CASCADE, null=True, db_index=True
    )
    client: fields.ForeignKeyRelation[OAuthClient] = fields.ForeignKeyField(
        OAuthClient, related_name="auth_oauth_devices", on_delete=OnDelete.CASCADE, db_index=True
    )

    class Meta:
        table = "auth_oauth_device"


class AbstractOAuthClientToken(Outward, Model):
    """An access token by which a client acts for itself (RFC 6749 section 4.4), as its digest."""

    _withheld = frozenset({"digest"})

    id = fields.UUIDField(primary_key=True, default=uuid.uuid4)
    client: Any
    client_id: uuid.UUID
    digest = fields.CharField(max_length=64, unique=True)
    scopes = NamesField()
    resources = NamesField(max_length=ADDRESSES_LENGTH)
    expires_at: datetime = MomentField(db_index=True)
    created_at = MomentField(auto_now_add=True)

    class Meta:
        abstract = True


class OAuthClientToken(AbstractOAuthClientToken):
    """An access token by which a client acts for itself."""

    client: fields.ForeignKeyRelation[OAuthClient] = fields.ForeignKeyField(
        OAuthClient, related_name="auth_client_tokens", on_delete=OnDelete.CASCADE, db_index=True
    )

    class Meta:
        table = "auth_oauth_client_token"


STALE: Final = timedelta(days=7)
"""For how long a document serves while its host is down."""
UNUSED: Final = timedelta(hours=1)
"""For how long one is kept whose client no user has let in: anybody may have had many read."""
UNUSED_REGISTRATION: Final = timedelta(hours=24)
"""For how long a client that has registered itself is kept that no user has let in."""


def _never_used(now: datetime, _: AuthSettings) -> Q:
    """Documents that anybody may have had read, and whose client no user has let in. What is disabled stays
    so."""
    return Q(origin=DOCUMENT, last_used_at=None, disabled_at=None, fetched_at__lt=now - UNUSED)


def _never_used_registration(now: datetime, _: AuthSettings) -> Q:
    return Q(origin=REGISTERED, last_used_at=None, disabled_at=None, created_at__lt=now - UNUSED_REGISTRATION)


EXPIRED: Final = (
    # A code stays as long as its grant, so that a replay ends that.
    Expired(OAuthToken, lambda now, _: Q(expires_at__lt=now, kind__in=(ACCESS, REFRESH))),
    Expired(OAuthGrant, lambda now, _: Q(expires_at__lt=now)),
    Expired(OAuthDevice, lambda now, _: Q(expires_at__lt=now)),
    Expired(OAuthClientToken, lambda now, _: Q(expires_at__lt=now)),
    Expired(OAuthClient, _never_used),
    Expired(OAuthClient, _never_used_registration),
)
ACCESS_ENDED: Final = AccessEnded(OAuthGrant, ALL_ACCESS)
"""Their tokens go with them."""
