"""A user's own data, to take along (GDPR articles 15 and 20), as one JSON object."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from pydantic_core import to_json

from ..auth import Auth
from ..events import EventKind
from ..features.feature import Export
from ..models import matching
from .authentication import Authentication, observed, require_recent_login
from .sessions import list_sessions

PIECE: Final = 500
"""How many rows are read at once, and entries sent in one piece."""

_ACCOUNT: Final = (
    "created_at",
    "verified_at",
    "last_login_at",
    "password_changed_at",
    "pending_email",
    "language",
    "roles",
    "permissions",
)
_DEVICE: Final = ("id", "user_agent", "created_at", "last_used_at", "expires_at")
_MAIL: Final = ("id", "kind", "recipient", "state", "created_at", "sent_at")


async def export_account(
    auth: Auth, authentication: Authentication, profile: Mapping[str, Any]
) -> AsyncIterator[bytes]:
    """This profile and all else that is kept of the user, also by features, in pieces of JSON: the whole of
    most accounts in the first one, which is made here. Raises `AuthError`: REAUTHENTICATION_REQUIRED,
    IMPERSONATION_FORBIDDEN."""
    async with observed(auth, EventKind.ACCOUNT_EXPORT, authentication):
        require_recent_login(auth, authentication)
        pieces = _pieces(auth, authentication, profile)
        first = await anext(pieces)
    return _with_deadlines(auth, first, pieces)


async def _with_deadlines(auth: Auth, first: bytes, others: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Each piece gets the time that a request has for the database. Where one takes longer, the answer breaks
    off: what has arrived is no JSON, and so is not taken for the whole."""
    piece: bytes | None = first
    while piece is not None:
        yield piece
        piece = await auth.with_deadline(_next(others))


async def _next(pieces: AsyncIterator[bytes]) -> bytes | None:
    return await anext(pieces, None)


async def _pieces(
    auth: Auth, authentication: Authentication, profile: Mapping[str, Any]
) -> AsyncIterator[bytes]:
    """Each value and each entry of a list has a line, for people who read it."""
    user = authentication.user
    head = {
        "exported_at": auth.clock(),
        "profile": profile,
        "account": {name: getattr(user, name) for name in _ACCOUNT},
    }
    text = [b"{" + b",\n".join(_json(name) + b": " + _json(value) for name, value in head.items())]
    for name, part in {**_PARTS, **auth.features.exports}.items():
        made = part(auth, authentication)
        text.append(b",\n" + _json(name) + b": ")
        if not isinstance(made, AsyncIterator):
            text.append(_json(await made))
            continue
        before = b"[\n  "
        async for entry in made:
            text.append(before + _json(entry))
            before = b",\n  "
            if len(text) >= PIECE:
                yield b"".join(text)
                text.clear()
        text.append(b"]" if before.startswith(b",") else b"[]")
    yield b"".join((*text, b"}\n"))


def _json(value: object) -> bytes:
    """Whatever columns of a host hold."""
    return to_json(value, bytes_mode="base64", inf_nan_mode="null", fallback=str)


async def _sessions(auth: Auth, authentication: Authentication) -> AsyncIterator[Mapping[str, Any]]:
    page = await list_sessions(auth, authentication, limit=PIECE)
    while True:
        for info in page.sessions:
            yield info.shown()
        if page.next is None:
            return
        page = await list_sessions(auth, authentication, after=page.next, limit=PIECE)


async def _devices(auth: Auth, authentication: Authentication) -> list[Mapping[str, Any]]:
    user_id = authentication.user.id
    devices = await auth.tables.device.filter(user_id=user_id).order_by("-last_used_at")
    return [
        {name: getattr(device, name) for name in _DEVICE} for device in matching(devices, user_id=user_id)
    ]


async def _mails(auth: Auth, authentication: Authentication) -> AsyncIterator[Mapping[str, Any]]:
    """That there are such mails: what is in them is made when they are sent."""
    user_id, offset = authentication.user.id, 0
    mails = auth.tables.mail.filter(user_id=user_id).order_by("created_at", "id")
    while found := matching(await mails.offset(offset).limit(PIECE), user_id=user_id):
        for mail in found:
            yield {name: getattr(mail, name) for name in _MAIL}
        offset += PIECE


_PARTS: Final[Mapping[str, Export]] = {"sessions": _sessions, "devices": _devices, "mails": _mails}
