"""The mails that `EMAIL_PROVIDER=memory` keeps, in a browser. For development: everyone sees them."""

from __future__ import annotations

import re
from typing import Annotated, Final

from fastapi import Depends, HTTPException, Request
from fastapi.responses import HTMLResponse

from ..dependencies import CurrentAuth
from ..email.local import KeptMail, MemoryProvider
from ..security.proxies import is_loopback
from .pages.rendering import HEADERS, MAILBOX, render_page
from .pages.route import PageRoute
from .router import AuthRouter

_LOCAL: Final = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d+)?")

_FOR_OTHERS: Final = {
    *("forwarded", "via", "x-real-ip", "x-client-ip", "true-client-ip", "cf-connecting-ip"),
    "origin",
}
"""What proxies add, beside the headers that begin with `X-Forwarded`, and scripts of other sites."""

_HEAD: Final = re.compile(r"<head(\s[^>]*)?>", re.IGNORECASE)

# The mail's own styles, nothing from elsewhere, and no script; its links open in the whole window.
_MAIL_HEADERS: Final = {
    **HEADERS,
    "X-Frame-Options": "SAMEORIGIN",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
        "frame-ancestors 'self'; sandbox allow-top-navigation-by-user-activation"
    ),
}


def on_this_machine(request: Request) -> None:
    """Answers 404 unless a browser of this machine speaks to it by its local name: a name that somebody
    points here (DNS rebinding) is another one, a proxy on this machine speaks for somebody else, and so does
    a script of another site, which the host's CORS may let read: it alone sends an `Origin` with a GET."""
    by_local_name = _LOCAL.fullmatch(request.headers.get("host", "")) is not None
    for_others = any(name in _FOR_OTHERS or name.startswith("x-forwarded") for name in request.headers)
    if not by_local_name or for_others or not (request.client and is_loopback(request.client.host)):
        raise HTTPException(404)


def kept_mails(auth: CurrentAuth) -> dict[int, KeptMail]:
    """The mails by number, the newest first."""
    provider = auth.mailer.provider
    if not isinstance(provider, MemoryProvider):
        return {}
    return {mail.number: mail for mail in reversed(provider.mails)}


KeptMails = Annotated[dict[int, KeptMail], Depends(kept_mails)]

router = AuthRouter(
    prefix=MAILBOX,
    tags=["development mailbox"],
    route_class=PageRoute,
    include_in_schema=False,
    dependencies=[Depends(on_this_machine)],
)


@router.get("")
async def list_mails(auth: CurrentAuth, request: Request, mails: KeptMails) -> HTMLResponse:
    """All mails that are kept."""
    return render_page(auth, request, "mailbox", mails=mails.values())


@router.get("/{number}")
async def read_mail(auth: CurrentAuth, request: Request, mails: KeptMails, number: int) -> HTMLResponse:
    """One mail, as text and as a mail program shows it."""
    mail = _found(mails, number)
    page = render_page(auth, request, "mail", mail=mail)
    page.headers["Content-Security-Policy"] += "; frame-src 'self'"
    return page


@router.get("/{number}/html")
async def read_html(mails: KeptMails, number: int) -> HTMLResponse:
    """The HTML of a mail, to be framed."""
    html = _found(mails, number).html or ""
    head = _HEAD.search(html)
    place = head.end() if head else 0
    return HTMLResponse(f'{html[:place]}<base target="_top">{html[place:]}', headers=_MAIL_HEADERS)


def _found(mails: dict[int, KeptMail], number: int) -> KeptMail:
    if number not in mails:
        raise HTTPException(404)
    return mails[number]
