"""What a browser remembers while its user looks into the mail. An address stands in no URL, where logs and
histories would keep it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Literal

from fastapi import Request

from ..auth import Auth
from ..security.cookies import received_cookie
from ..security.keys import SignatureError, key_set
from ..security.redirects import safe_next
from ..security.signed_text import open_text, sign_text
from .cookies import RequestCookies, request_cookies

LONGEST: Final = timedelta(days=1)

Awaited = Literal["", "signup", "verify", "reset"]
"""What the mail is for; nothing where only the address is of use."""

_USE: Final = "mail note"


@dataclass(frozen=True, slots=True)
class MailNote:
    """The address, the mail that was sent to it, and the path to go on to. `signed_up` says that the password
    was chosen in this browser, by the page's own form; `challenge` is what the code of the mail answers."""

    email: str = field(repr=False)
    awaited: Awaited = ""
    next: str | None = None
    signed_up: bool = False
    challenge: str | None = field(default=None, repr=False)


def mail_note(request: Request, auth: Auth) -> MailNote | None:
    """The note of this browser, while it lasts; None also where the app gives browsers no cookies."""
    cookies = request_cookies(request)
    if cookies is None:
        return None
    text = received_cookie(request.scope["headers"], cookies.names.mail_note) or ""
    try:
        said = json.loads(open_text(key_set(auth.settings), _USE, text))
        expires, email, awaited, next, signed_up, *challenge = said  # none in a note of before
    except SignatureError:
        return None
    if auth.clock().timestamp() >= expires:
        return None
    return MailNote(email, awaited, safe_next(next), signed_up, *challenge)


def note_of(request: Request, auth: Auth, email: str) -> MailNote | None:
    """The same where it is about this address."""
    note = mail_note(request, auth)
    return note if note is not None and note.email == email else None


def keep_note(
    request: Request,
    auth: Auth,
    email: str,
    *,
    awaited: Awaited = "",
    next: str | None = None,
    signed_up: bool = False,
    challenge: str | None = None,
) -> None:
    """Queues the cookie, for as long as a mailed link lives, at most a day. What an earlier note says of the
    same address stays, where nothing else is said now."""
    before = note_of(request, auth, email) or MailNote(email)
    settings = auth.settings
    lifetime = min(LONGEST, max(settings.verify_token_ttl, settings.reset_token_ttl))
    said = (
        int((auth.clock() + lifetime).timestamp()),
        email,
        awaited or before.awaited,
        next or before.next,
        signed_up or before.signed_up,
        challenge or (before.challenge if awaited in ("", before.awaited) else None),
    )
    value = sign_text(key_set(settings), _USE, json.dumps(said))
    cookies = _of(request)
    names = cookies.names
    cookies.queued[names.mail_note] = names.set(names.mail_note, value, int(lifetime.total_seconds()))


def forget_note(request: Request) -> None:
    """Queues the deletion, where the request has one."""
    cookies = _of(request)
    name = cookies.names.mail_note
    if name in cookies.received:
        cookies.queued[name] = cookies.names.delete(name)


def _of(request: Request) -> RequestCookies:
    cookies = request_cookies(request)
    if cookies is None:
        raise RuntimeError("Pages need cookies: call include_auth(app, pages=True).")
    return cookies
