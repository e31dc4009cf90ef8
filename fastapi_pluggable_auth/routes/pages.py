"""The pages behind mailed links: plain HTML forms, no script, nothing from elsewhere (ASVS 3.4)."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Awaitable, Collection
from functools import cache
from pathlib import Path
from typing import Final

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import ChoiceLoader, Environment, FileSystemLoader, StrictUndefined

from ..auth import Auth
from ..email.tokens import Purpose, link_state
from ..errors import AuthError, ErrorCode
from ..models import AbstractUser
from ..security.passwords import MAXIMUM_LENGTH, MINIMUM_LENGTH

TEMPLATES: Final = Path(__file__).parent / "templates"
_STYLE: Final = (TEMPLATES / "page.css").read_text("utf-8")
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

HEADERS: Final = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'; object-src 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
    "Vary": "Accept",
}


def is_browser(request: Request) -> bool:
    """Whether a person is looking: API clients do not ask for HTML."""
    return "text/html" in request.headers.get("accept", "")


async def confirmation_page(auth: Auth, owner: Awaitable[object], title: str, button: str) -> HTMLResponse:
    """A page with one button that posts to its own address, or the page of a dead link."""
    try:
        await owner
    except AuthError as error:
        return _error_page(auth, error)
    return _page(auth, "page_confirm.html", 200, title=title, button=button)


async def verify_page(
    auth: Auth, request: Request, owner: Awaitable[AbstractUser], problem: str = ""
) -> HTMLResponse:
    """The form for the password of the account to verify, with what was wrong with the last try, or the page
    of a dead link. Who does not know the password did not sign up: the page leads on to a new one."""
    try:
        user = await owner
    except AuthError as error:
        return _error_page(auth, error)
    path = request.url.path.removesuffix("/form")
    reset = auth.links.generate(Purpose.RESET, user.id, link_state(Purpose.RESET, user))
    return _page(
        auth,
        "page_verify.html",
        403 if problem else 200,
        title="Verify your e-mail address",
        action=f"{path}/form",
        reset=f"{path.rpartition('/verify/')[0]}/reset-password/{reset}",
        problem=problem,
        maximum=MAXIMUM_LENGTH,
    )


async def reset_page(
    auth: Auth, request: Request, owner: Awaitable[object], problem: str = ""
) -> HTMLResponse:
    """The form for a new password, with what was wrong with the last try, or the page of a dead link."""
    try:
        await owner
    except AuthError as error:
        return _error_page(auth, error)
    return _page(
        auth,
        "page_reset.html",
        422 if problem else 200,
        title="Choose a new password",
        action=f"{request.url.path.removesuffix('/form')}/form",
        problem=problem,
        minimum=MINIMUM_LENGTH,
        maximum=MAXIMUM_LENGTH,
    )


async def outcome_page(
    auth: Auth, work: Awaitable[object], done: str, *, keep: Collection[ErrorCode] = ()
) -> HTMLResponse:
    """Does the work and says how it went; errors of the codes to keep are raised again."""
    try:
        await work
    except AuthError as error:
        if error.code in keep:
            raise
        return _error_page(auth, error)
    return _page(auth, "page_message.html", 200, title=done, text="You can close this page.")


def _error_page(auth: Auth, error: AuthError) -> HTMLResponse:
    gone = error.code is ErrorCode.INVALID_LINK
    title = "This link does not work any more" if gone else error.code.detail
    text = (
        "It was used already or is too old. Sign in, or ask for a new link." if gone else "Please try again."
    )
    response = _page(auth, "page_message.html", error.code.status, title=title, text=text)
    response.headers.update(error.headers)
    return response


@cache
def _environment(folder: Path | None) -> Environment:
    folders = [TEMPLATES] if folder is None else [folder, TEMPLATES]
    loader = ChoiceLoader([FileSystemLoader(each) for each in folders])
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined)


def _page(auth: Auth, template: str, status: int, **context: object) -> HTMLResponse:
    page = _environment(auth.settings.template_dir).get_template(template)
    html = page.render(app_name=auth.settings.totp_issuer, style=_STYLE, **context)
    return HTMLResponse(html, status, HEADERS)
