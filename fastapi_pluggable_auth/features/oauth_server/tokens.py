"""OAuth tokens: their form, and whom they stand for."""

from __future__ import annotations

import base64
import hmac
import logging
import re
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from ...auth import Auth
from ...compiled import Row, Select
from ...errors import AuthError, ErrorCode
from ...failures import failure_of, log_failure
from ...flows.authentication import Authentication
from ...models import exact
from ...queries import Read, of_existing
from ...security.keys import key_set
from ...shared_reads import SharedSelect
from .ending import end_stolen
from .models import ACCESS, CODE, REFRESH, OAuthToken, digest_of
from .resources import covers

logger = logging.getLogger(__name__)

USE_RECORDED_EVERY: Final = timedelta(minutes=1)

_PREFIXES: Final = {CODE: "oac_", ACCESS: "oat_", REFRESH: "ort_"}
"""They let scanners find a token in code and logs, and keep the kinds apart."""
_ACCESS: Final = re.compile("oat_[A-Za-z0-9_-]{43}")
_NEVER: Final = datetime.min.replace(tzinfo=UTC)
"""When a program has last typed a password."""
_SUCCESSORS: Final = "OAuth tokens"
"""Names the key that makes successors."""


def is_access_token(token: str) -> bool:
    """Whether a token has the form of an OAuth access token."""
    return _ACCESS.fullmatch(token) is not None


def new_secret(kind: str) -> str:
    """256 random bits: enough for a fast digest at rest."""
    return _PREFIXES[kind] + secrets.token_urlsafe(32)


def successors(auth: Auth, kind: str, spent: str, attempt: int) -> Iterator[str]:
    """What follows on a refresh token that is spent, by our key and then by each earlier one: a retry gets
    the same again, and nothing at rest says what."""
    text = f"{kind}\0{attempt}\0{spent}".encode()
    for key in key_set(auth.settings).derive_each(_SUCCESSORS):
        random = hmac.digest(key, text, "sha256")
        yield _PREFIXES[kind] + base64.urlsafe_b64encode(random).rstrip(b"=").decode()


async def authenticate_token(auth: Auth, token: str) -> Authentication:
    """Whom an access token stands for, as `row_of_token`. Such an authentication never is a recent login."""
    work = row_of_token(auth, token)
    del token  # an error tracker would send it with this frame
    found = await work
    return Authentication(found["user"], None, _NEVER, scopes=found["scopes"], resources=found["resources"])


async def row_of_token(auth: Auth, token: str) -> Row:
    """The row of an access token with its `user` and the `client` of its grant, in one query; its use is
    recorded once a minute. Raises `AuthError(INVALID_TOKEN)` where the token, its grant or the account is not
    valid, and for a superseded one, which two have, after the grant has ended."""
    digest, now = digest_of(token), auth.clock()
    del token
    found = await auth.service(_by_digest).first(digest=digest)
    if found is None or found["kind"] != ACCESS:
        raise AuthError(ErrorCode.INVALID_TOKEN)
    user = found["user"]
    if found["expires_at"] <= now or found["grant_ends"] is None or not user.is_active:
        raise AuthError(ErrorCode.INVALID_TOKEN)
    used_at = found["used_at"]
    superseded = found["superseded"]
    if not superseded and (used_at is None or used_at <= now - USE_RECORDED_EVERY):
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
        *("expires_at", "used_at"),
    )
    of_grant = {"grant_ends": "grant__expires_at", "client": "grant__client_id"}
    select = Select(auth.tables.of(OAuthToken), ("digest",), columns, whole="user", **of_grant)
    return of_existing(auth.tables.user, SharedSelect(select))
