"""OAuth tokens: their form, and whom they stand for."""

from __future__ import annotations

import base64
import hmac
import logging
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from ...auth import Auth
from ...compiled import Row, Select
from ...errors import AuthError, ErrorCode
from ...failures import failure_of, log_failure
from ...flows.authentication import Authentication, is_use_due, of_program
from ...models import exact
from ...queries import Read, of_existing
from ...security.keys import key_set
from ...shared_reads import SharedSelect
from .ending import end_stolen
from .models import ACCESS, CODE, DEVICE, REFRESH, OAuthToken, digest_of
from .resources import covers

logger = logging.getLogger(__name__)

_PREFIXES: Final = {CODE: "oac_", DEVICE: "odc_", ACCESS: "oat_", REFRESH: "ort_"}
"""They let scanners find a token in code and logs, and keep the kinds apart."""
_ACCESS: Final = re.compile("oat_[A-Za-z0-9_-]{43}")
_REFRESH: Final = re.compile("(ort_[A-Za-z0-9_-]{43})([A-Za-z0-9_-]{54})")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = 2**56
"""Microseconds: what a stranger has made up is still a date."""
_SUCCESSORS: Final = "OAuth tokens"
"""Names the key that makes successors."""


def is_access_token(token: str) -> bool:
    """Whether a token has the form of an OAuth access token."""
    return _ACCESS.fullmatch(token) is not None


def new_secret(kind: str) -> str:
    """256 random bits: enough for a fast digest at rest."""
    return _PREFIXES[kind] + secrets.token_urlsafe(32)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a refresh token belongs, which it says itself: it is known when its row was dropped."""

    grant_id: UUID
    created_at: datetime

    def _coded(self) -> bytes:
        since = (self.created_at - _EPOCH) // timedelta(microseconds=1)
        return self.grant_id.bytes + since.to_bytes(8)


def new_refresh_token(auth: Auth, place: Place) -> str:
    """The first of a grant."""
    return _placed(next(key_set(auth.settings).derive_each(_SUCCESSORS)), new_secret(REFRESH), place)


def successors(auth: Auth, spent: str, attempt: int, place: Place) -> Iterator[tuple[str, str]]:
    """The access token and the refresh token that follow on a refresh token that is spent, by our key and
    then by each earlier one: a retry gets the same again, and nothing at rest says what."""
    for key in key_set(auth.settings).derive_each(_SUCCESSORS):
        access, fresh = (
            _PREFIXES[kind] + _text(hmac.digest(key, f"{kind}\0{attempt}\0{spent}".encode(), "sha256"))
            for kind in (ACCESS, REFRESH)
        )
        yield access, _placed(key, fresh, place)


def place_of(auth: Auth, token: str) -> Place | None:
    """Where a refresh token of ours belongs; None for what is none."""
    found = _REFRESH.fullmatch(token)
    if found is None:
        return None
    coded = base64.urlsafe_b64decode(found[2] + "==")
    place = Place(
        UUID(bytes=coded[:16]), _EPOCH + timedelta(microseconds=int.from_bytes(coded[16:24]) % _LATEST)
    )
    keys = key_set(auth.settings).derive_each(_SUCCESSORS)
    ours = any(hmac.compare_digest(_placed(key, found[1], place), token) for key in keys)
    return place if ours else None


def _placed(key: bytes, secret: str, place: Place) -> str:
    coded = place._coded()
    mark = hmac.digest(key, f"place\0{secret}\0".encode() + coded, "sha256")[:16]
    return secret + _text(coded + mark)


def _text(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


async def authenticate_token(auth: Auth, token: str) -> Authentication:
    """Whom an access token stands for, as `row_of_token`. Such an authentication never is a recent login."""
    work = row_of_token(auth, token)
    del token  # an error tracker would send it with this frame
    found = await work
    return of_program(found["user"], found["scopes"], found["resources"])


async def row_of_token(auth: Auth, token: str) -> Row:
    """The row of an access token with its `user` and the `client` of its grant, in one query; its use is
    recorded once a minute. Raises `AuthError(INVALID_TOKEN)` where the token, its grant or the account is not
    valid, and for a superseded one, which two have, after the grant has ended."""
    work = row_of_digest(auth, digest_of(token))
    del token
    return await work


async def row_of_digest(auth: Auth, digest: str) -> Row:
    """The same for the digest of a token, which one for another service names."""
    now = auth.clock()
    found = await auth.service(_by_digest).first(digest=digest)
    if found is None or found["kind"] != ACCESS:
        raise AuthError(ErrorCode.INVALID_TOKEN)
    user = found["user"]
    if found["expires_at"] <= now or found["grant_ends"] is None or not user.is_active:
        raise AuthError(ErrorCode.INVALID_TOKEN)
    used_at = found["used_at"]
    superseded = found["superseded"]
    if not superseded and is_use_due(used_at, now):
        superseded = not await _note_use(auth, found, now)
    if superseded:
        await end_stolen(auth, found["grant_id"], user)
        raise AuthError(ErrorCode.INVALID_TOKEN)
    return found


def is_allowed(auth: Auth, authentication: Authentication, path: str) -> bool:
    """Whether a token is for this path of the app (RFC 8707 section 2)."""
    return any(covers(auth, resource, path) for resource in authentication.resources or ())


async def _note_use(auth: Auth, found: dict[str, Any], now: datetime) -> bool:
    """Notes that a token was shown, with the one that was issued beside it: their answer was not lost. False
    where it was superseded meanwhile. A request goes on where that can't be noted."""
    rows = auth.tables.of(OAuthToken)

    async def note() -> tuple[bool]:
        pair = rows.filter(parent=found["parent"], grant_id=found["grant_id"], superseded=False)
        await pair.update(used_at=now)
        kept = await exact(rows.all(), id=found["id"])
        return (kept is None or not kept.superseded,)

    try:
        (good,) = await auth.autonomous.run_statement(note)
    except Exception as error:
        if failure_of(error) is None:
            raise
        log_failure(error, "That a token was shown could not be noted", logger)
        return True
    return good


def _by_digest(auth: Auth) -> Read:
    """The state of a token, and its `user`."""
    columns = (
        *("id", "user_id", "grant_id", "digest", "kind", "scopes", "resources", "parent", "superseded"),
        *("expires_at", "used_at", "created_at"),
    )
    of_grant = {"grant_ends": "grant__expires_at", "client": "grant__client_id"}
    select = Select(auth.tables.of(OAuthToken), ("digest",), columns, whole="user", **of_grant)
    return of_existing(auth.tables.user, SharedSelect(select))
