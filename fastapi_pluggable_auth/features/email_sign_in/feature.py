"""What signing in by mail brings."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from fastapi import APIRouter

from ...arguments import require_bool, require_callable
from ...auth import Auth
from ...models import AbstractUser
from ..feature import Feature, Slot
from .names import RATE, EmailSignInError, EmailSignInEventKind, EmailSignInMail
from .options import EmailSignInOptions, options_of
from .schemas import EmailSignInCode, EmailSignInLink, EmailSignInRequest


def _routers(auth: Auth) -> Iterable[APIRouter]:
    from . import routes  # here, as routes take long to import

    options = options_of(auth)
    yield routes.router
    if options.code:
        yield routes.codes
    if options.link:
        yield routes.links
    if auth.pages:
        from . import pages

        yield pages.router
        if options.code:
            yield pages.codes


def _everybody(_: Any) -> bool:
    return True


async def _ways_in(auth: Auth, user: AbstractUser) -> int:
    return int(options_of(auth).allowed(user))


class EmailSignIn(Feature):
    """Signing in with a mail, which has a `code`, a `link` or both: one factor (`mail`), so that a second one
    is still asked for. With `signup`, somebody new gets an account by it. `allowed` says which users may sign
    in so: others get no mail.

    Raises `ValueError` for a mail with neither, `TypeError` for what is neither True nor False, and for an
    `allowed` that is not a function of a user.
    """

    def __init__(
        self,
        *,
        code: bool = True,
        link: bool = True,
        signup: bool = False,
        allowed: Callable[[Any], bool] | None = None,
    ) -> None:
        for name, value in (("code", code), ("link", link), ("signup", signup)):
            require_bool(name, value)
        if not (code or link):
            raise ValueError("A mail to sign in with needs something to do so: code=True, link=True or both.")
        require_callable("allowed", allowed, "lambda user: not user.is_superuser")
        super().__init__(
            name="email_sign_in",
            errors=EmailSignInError,
            events=EmailSignInEventKind,
            mails=EmailSignInMail,
            rates={RATE: "20/hour"},
            routers=_routers,
            ways_in=_ways_in,
            slots=(Slot(place="sign_in", template="email_sign_in_way.html"),),
            guarded=(EmailSignInRequest,),
            answering=(EmailSignInCode, EmailSignInLink),
            options=EmailSignInOptions(code, link, signup, allowed or _everybody),
            templates=Path(__file__).parent / "templates",
            words=Path(__file__).parent / "words",
        )
