"""Devices without a browser, which their users let in from another one (RFC 8628).

A device gets a code for its user, who types it on a page of the app, and a device code of its own, by which
it asks again and again. Whoever types the code first has the device: it is theirs to allow or to deny.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID

from tortoise.exceptions import IntegrityError

from ...auth import Auth, autonomous
from ...errors import AuthError
from ...flows.authentication import Authentication, refuse_impersonation
from ...flows.throttle import Key, change, count
from ...models import exact
from ...security.keys import key_set
from ...security.plaintext import Plaintext
from ...security.throttle import Guesses, Quota
from .allowing import Code, DeniedError, allow
from .clients import client_host, scopes_asked
from .limiting import count_network
from .models import (
    DEVICE,
    OPERATOR,
    AbstractOAuthClient,
    AbstractOAuthDevice,
    OAuthClient,
    OAuthDevice,
    digest_of,
)
from .names import OAuthError
from .openid import OPENID, bound_sign_in
from .protocol import ProtocolError
from .resources import all_resources, issuer_of, resources_asked
from .tokens import new_secret

LIFETIME: Final = timedelta(minutes=10)
INTERVAL: Final = 5
"""Seconds between two requests of a device, and by how many more one that is too fast has to wait."""
_JITTER: Final = timedelta(seconds=1)
"""By how much a request may overtake the one before it on its way."""

_LETTERS: Final = "BCDFGHJKLMNPQRSTVWXZ"
"""RFC 8628 section 6.1: no vowels, which make words, and no digits, which look like letters."""
_LENGTH: Final = 8
_DRAWS: Final = 3
_USER_CODES: Final = "OAuth user codes"
"""Names the key that makes their digests: such a code is too short for a plain one."""

_OF_A_NETWORK: Final = Quota(60, timedelta(hours=1))
"""Devices that begin, so that nobody fills the table."""
_WRONG: Final = Guesses(limit=10, period=timedelta(hours=1), keep=timedelta(hours=1))
"""Wrong codes of one account (RFC 8628 section 5.1)."""


@dataclass(frozen=True, slots=True)
class NewDevice:
    """The codes of a device that begins."""

    device_code: str = field(repr=False)
    user_code: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A device that waits for the decision of the user who has typed its code, in the form that it shows."""

    device: AbstractOAuthDevice
    client: AbstractOAuthClient
    user_code: str = field(repr=False)


async def begin_device(
    auth: Auth, client: AbstractOAuthClient, scope: str, resources: Iterable[str] = ()
) -> NewDevice:
    """Codes for a device that asks for this. Raises `AuthError`: `ProtocolError.INVALID_SCOPE`,
    INVALID_TARGET, INVALID_CLIENT where the client was deleted meanwhile, and THROTTLED where too many have
    begun from its network."""
    scopes = scopes_asked(auth, client, scope)
    places = resources_asked(auth, resources, all_resources(auth))
    await count_network(auth, "devices", _OF_A_NETWORK)
    now, device_code = auth.clock(), Plaintext(new_secret(DEVICE))
    for _ in range(_DRAWS):
        user_code = Plaintext("".join(secrets.choice(_LETTERS) for _ in range(_LENGTH)))
        try:
            await auth.tables.of(OAuthDevice).create(
                client_id=client.id,
                digest=digest_of(device_code.look()),
                user_code_digest=_digests(auth, user_code.look())[0],
                scopes=scopes,
                resources=places,
                interval=INTERVAL,
                expires_at=now + LIFETIME,
                created_at=now,
            )
        except IntegrityError:  # another device has this code
            continue
        return NewDevice(device_code.take(), shown_code(user_code.take()))
    raise AuthError(ProtocolError.INVALID_CLIENT)


def shown_code(user_code: str) -> str:
    """A code as devices show it, whatever case, blanks and dashes it was typed with; empty for what is
    none."""
    letters = "".join(each for each in user_code.upper() if each in _LETTERS)
    return f"{letters[:4]}-{letters[4:]}" if len(letters) == _LENGTH else ""


async def refuse_waiting(auth: Auth, client: AbstractOAuthClient, digest: str) -> None:
    """Tells a device that its user has not allowed it (RFC 8628 section 3.5). Raises `AuthError`:
    `ProtocolError.AUTHORIZATION_PENDING`, SLOW_DOWN, ACCESS_DENIED, EXPIRED_TOKEN."""
    device = await exact(auth.tables.of(OAuthDevice).all(), digest=digest)
    if device is None or device.client_id != client.id or device.allowed_at is not None:
        return
    if device.denied_at is not None:
        raise AuthError(ProtocolError.ACCESS_DENIED)
    now = auth.clock()
    if device.expires_at <= now:
        raise AuthError(ProtocolError.EXPIRED_TOKEN)
    raise AuthError(await _note_request(auth, device, now) or ProtocolError.SLOW_DOWN)


async def verify(auth: Auth, authentication: Authentication, typed: Plaintext) -> Waiting:
    """Gives the user the device with this code, for good. Raises `AuthError`: DEVICE_CODE_REFUSED for one
    that is not known, has expired, was answered, or is of another user; THROTTLED after too many of those;
    IMPERSONATION_FORBIDDEN."""
    refuse_impersonation(authentication)
    user_id, user_code = authentication.user.id, Plaintext(shown_code(typed.take()))
    key = Key.of("oauth user codes", user_id)
    counted = await count(auth, key, _WRONG)
    device = await _bound(auth, user_id, _digests(auth, user_code.look()))
    client = None if device is None else await _client(auth, device)
    if device is None or client is None:
        raise AuthError(OAuthError.DEVICE_CODE_REFUSED)
    await change(auth, key, counted, _WRONG.take_back)
    return Waiting(device, client, user_code.take())


async def decide(auth: Auth, authentication: Authentication, device_id: UUID, *, allowed: bool) -> bool:
    """Whether the device may go on, after the decision of the user who has it. Raises `AuthError`:
    OAUTH_REQUEST_EXPIRED, IMPERSONATION_FORBIDDEN."""
    refuse_impersonation(authentication)
    user_id = authentication.user.id
    device = await exact(auth.tables.of(OAuthDevice).all(), id=device_id)
    if device is None or not _is_open(device, user_id, auth.clock()):
        raise AuthError(OAuthError.OAUTH_REQUEST_EXPIRED)
    client = await _client(auth, device)
    if client is None:
        raise AuthError(OAuthError.OAUTH_REQUEST_EXPIRED)
    if allowed:
        bound = bound_sign_in(authentication) if OPENID in device.scopes else {}
        code = Code(DEVICE, device.digest, device.expires_at, bound)
        asked, spend = (
            (device.scopes, device.resources),
            partial(_answer, auth, device, user_id, "allowed_at"),
        )
        try:
            await allow(auth, authentication, client, asked, code, spend, _vouching(auth, client))
        except DeniedError:
            allowed = False
        else:
            return True
    if not await _answer(auth, device, user_id, "denied_at"):
        raise AuthError(OAuthError.OAUTH_REQUEST_EXPIRED)
    return False


def _digests(auth: Auth, user_code: str) -> list[str]:
    """Those of a code by our key, and by each earlier one."""
    letters = user_code.replace("-", "").encode()
    keys = key_set(auth.settings).derive_each(_USER_CODES)
    return [hmac.digest(key, letters, "sha256").hex() for key in keys]


@autonomous
async def _note_request(auth: Auth, device: AbstractOAuthDevice, now: datetime) -> ProtocolError | None:
    """What a device is told that asks now: one that does so too often has to wait longer from then on. Of two
    at once, one comes too early. None where there is no row."""
    rows = auth.tables.of(OAuthDevice).filter(id=device.id)
    due = None if device.asked_at is None else device.asked_at + timedelta(seconds=device.interval) - _JITTER
    if (due is None or now >= due) and await rows.filter(asked_at=device.asked_at).update(asked_at=now):
        return ProtocolError.AUTHORIZATION_PENDING
    longer = device.interval + INTERVAL
    return ProtocolError.SLOW_DOWN if await rows.update(asked_at=now, interval=longer) else None


async def _bound(auth: Auth, user_id: UUID, digests: Iterable[str]) -> AbstractOAuthDevice | None:
    """The device whose code has one of these, once it is this user's; None where it is not."""
    rows, now = auth.tables.of(OAuthDevice), auth.clock()
    for digest in digests:
        free = rows.filter(user_code_digest=digest, user_id=None, expires_at__gt=now)
        await free.update(user_id=user_id)
        device = await exact(rows.all(), user_code_digest=digest)
        if device is not None:
            return device if _is_open(device, user_id, now) else None
    return None


def _is_open(device: AbstractOAuthDevice, user_id: UUID, now: datetime) -> bool:
    answered = device.allowed_at is not None or device.denied_at is not None
    return device.user_id == user_id and device.expires_at > now and not answered


async def _client(auth: Auth, device: AbstractOAuthDevice) -> AbstractOAuthClient | None:
    """That of a device, unless it is disabled."""
    client = await exact(auth.tables.of(OAuthClient).all(), id=device.client_id)
    return None if client is None or client.disabled_at is not None else client


async def _answer(auth: Auth, device: AbstractOAuthDevice, user_id: UUID, column: str) -> bool:
    """Whether this is the first answer."""
    now = auth.clock()
    unanswered = {"user_id": user_id, "allowed_at": None, "denied_at": None, "expires_at__gt": now}
    rows = auth.tables.of(OAuthDevice).filter(id=device.id, **unanswered)
    return bool(await rows.update(**{column: now}))


def _vouching(auth: Auth, client: AbstractOAuthClient) -> str:
    """The host that vouches for a client: that of the app for one that its operator has registered."""
    own = urlsplit(issuer_of(auth.settings)).hostname if client.origin == OPERATOR else None
    return client_host(client) or own or "?"
