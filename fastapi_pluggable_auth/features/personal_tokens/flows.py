"""Personal access tokens (API keys): made and revoked by their owner, for programs that act in the owner's
name."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from tortoise.exceptions import ValidationError
from tortoise.expressions import Q
from tortoise.queryset import QuerySet

from ...auth import Auth, transactional
from ...compiled import Select
from ...errors import AuthError, ErrorCode, ErrorTable
from ...events import EventTable
from ...flows.authentication import (
    Authentication,
    is_use_due,
    observed,
    of_program,
    refuse_impersonation,
    require_recent_login,
)
from ...flows.notices import notify
from ...models import exact, matching
from ...queries import Read, of_existing
from ...security.plaintext import Plaintext
from ...shared_reads import SharedSelect
from ..feature import MailSpec, MailTable
from .models import AbstractPersonalToken, PersonalToken
from .secret import digest_of, generate_secret


class PersonalTokenError(ErrorTable):
    """Codes of personal access tokens."""

    UNKNOWN_SCOPE = (400, "There is no such scope.")
    TOKEN_LIFETIME_REFUSED = (400, "A personal access token may not live that long.")
    TOO_MANY_TOKENS = (409, "Revoke a personal access token first: there are as many as allowed.")
    TOKEN_NOT_FOUND = (404, "There is no such personal access token.")


class PersonalTokenEventKind(EventTable):
    """Security events of personal access tokens."""

    PERSONAL_TOKEN_CREATED = "personal_token_created"  # noqa: S105
    PERSONAL_TOKEN_REVOKED = "personal_token_revoked"  # noqa: S105


class PersonalTokenMail(MailTable):
    """Mails of personal access tokens."""

    PERSONAL_TOKEN_CREATED = (
        "personal_token_created",
        MailSpec(
            page="security/tokens", sample={"name": "backup script", "scopes": "notes:read, notes:write"}
        ),
    )


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token that was just made. `secret` is what a program sends; only its digest is kept."""

    token: PersonalToken
    secret: str = field(repr=False)


async def create_token(
    auth: Auth,
    authentication: Authentication,
    name: str,
    scopes: Collection[str],
    lifetime: timedelta | None = None,
) -> NewToken:
    """Makes a token with these scopes and tells its owner by mail. A lifetime of None is that of the setting
    `personal_token_expires`, and one of 0 has no end, where `personal_token_max_age` is 0 as well.

    Raises `AuthError`: REAUTHENTICATION_REQUIRED, UNKNOWN_SCOPE, TOKEN_LIFETIME_REFUSED, TOO_MANY_TOKENS,
    VALIDATION_ERROR for more scopes than the column has room for, and INVALID_TOKEN where all access was
    ended meanwhile.
    """
    async with observed(auth, PersonalTokenEventKind.PERSONAL_TOKEN_CREATED, authentication):
        require_recent_login(auth, authentication)
        if not (scopes and auth.features.scopes_of("personal_tokens").keys() >= set(scopes)):
            raise AuthError(PersonalTokenError.UNKNOWN_SCOPE)
        now, secret = auth.clock(), Plaintext(generate_secret())
        columns = {
            "name": name,
            "digest": digest_of(secret.look()),
            "scopes": frozenset(scopes),
            "expires_at": _end_of(auth, now, lifetime),
            "created_at": now,
        }
        try:
            token = await _create(auth, authentication, columns)
        except ValidationError as error:
            raise AuthError(ErrorCode.VALIDATION_ERROR) from error
    return NewToken(token, secret.take())


async def list_tokens(auth: Auth, user_id: UUID) -> list[PersonalToken]:
    """The tokens of the user that have not expired, the newest first."""
    tokens = await _live(auth, user_id, auth.clock()).order_by("-created_at")
    return [*matching(tokens, user_id=user_id)]


def shown(token: AbstractPersonalToken) -> dict[str, Any]:
    """What its owner sees of it."""
    return {
        "id": token.id,
        "name": token.name,
        "scopes": sorted(token.scopes),
        "created_at": token.created_at,
        "last_used_at": token.last_used_at,
        "expires_at": token.expires_at,
    }


async def revoke_token(auth: Auth, authentication: Authentication, token_id: UUID) -> None:
    """Ends one token of the user, at once; raises `AuthError`: TOKEN_NOT_FOUND for any other,
    IMPERSONATION_FORBIDDEN."""
    async with observed(auth, PersonalTokenEventKind.PERSONAL_TOKEN_REVOKED, authentication):
        refuse_impersonation(authentication)
        own = auth.tables.of(PersonalToken).filter(id=token_id, user_id=authentication.user.id)
        if not await own.delete():
            raise AuthError(PersonalTokenError.TOKEN_NOT_FOUND)


async def authenticate_token(auth: Auth, secret: str) -> Authentication:
    """Whom a token stands for, in one query; its use is recorded once a minute. Such an authentication never
    is a recent login. Raises `AuthError(INVALID_TOKEN)` when the token or the account is not valid."""
    digest, now = digest_of(secret), auth.clock()
    del secret  # an error tracker would send it with this frame
    token = await auth.service(_by_digest).first(digest=digest)
    if token is None:
        raise AuthError(ErrorCode.INVALID_TOKEN)
    user = token["user"]
    ended = token["expires_at"] is not None and token["expires_at"] <= now
    if ended or not user.is_active:
        raise AuthError(ErrorCode.INVALID_TOKEN)
    used_at = token["last_used_at"]
    if is_use_due(used_at, now):
        unchanged = auth.tables.of(PersonalToken).filter(id=token["id"], last_used_at=used_at)
        await unchanged.update(last_used_at=now)
    return of_program(user, token["scopes"])


def _by_digest(auth: Auth) -> Read:
    """The state of a token, and its `user`."""
    columns = ("id", "user_id", "digest", "scopes", "expires_at", "last_used_at")
    token = Select(auth.tables.of(PersonalToken), ("digest",), columns, whole="user")
    return of_existing(auth.tables.user, SharedSelect(token))


@transactional
async def _create(auth: Auth, authentication: Authentication, columns: dict[str, Any]) -> PersonalToken:
    # The account is locked from here on: of several at once none goes beyond the limit, and none outlives
    # what ends personal tokens, which is noticed or deletes it.
    user = authentication.user
    await auth.tables.user.filter(id=user.id, is_active=True).update(is_active=True)
    same = {"id": user.id, "is_active": True, "access_epoch": user.access_epoch}
    if await exact(auth.tables.user.all(), **same) is None:
        raise AuthError(ErrorCode.INVALID_TOKEN)
    if await _live(auth, user.id, columns["created_at"]).count() >= auth.settings.max_personal_tokens:
        raise AuthError(PersonalTokenError.TOO_MANY_TOKENS)
    token = await auth.tables.of(PersonalToken).create(user_id=user.id, **columns)
    allowed = ", ".join(sorted(token.scopes))
    await notify(auth, PersonalTokenMail.PERSONAL_TOKEN_CREATED, user, name=token.name, scopes=allowed)
    return token


def _end_of(auth: Auth, now: datetime, lifetime: timedelta | None) -> datetime | None:
    longest = auth.settings.personal_token_max_age
    if lifetime is None:
        lifetime = auth.settings.personal_token_expires
        lifetime = min(lifetime, longest) if longest else lifetime
    if longest and not timedelta() < lifetime <= longest:
        raise AuthError(PersonalTokenError.TOKEN_LIFETIME_REFUSED)
    return now + lifetime if lifetime else None


def _live(auth: Auth, user_id: UUID, now: datetime) -> QuerySet[PersonalToken]:
    return auth.tables.of(PersonalToken).filter(Q(expires_at=None) | Q(expires_at__gt=now), user_id=user_id)
