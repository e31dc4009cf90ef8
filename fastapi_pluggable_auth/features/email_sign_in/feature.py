"""What signing in by mail brings."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from fastapi import APIRouter

from ...arguments import require_callable
from ...auth import Auth
from ..feature import Feature, Slot
from .names import EmailSignInError, EmailSignInEventKind, EmailSignInMail
from .options import EmailSignInOptions
from .schemas import EmailSignInCode, EmailSignInLink, EmailSignInRequest


def _routers(auth: Auth) -> Iterable[APIRouter]:
    from . import routes  # here, as routes take long to import

    yield routes.router
    if auth.pages:
        from . import pages

        yield pages.router


def _everybody(_: Any) -> bool:
    return True


class EmailSignIn(Feature):
    """Signing in with a mail, which has a code and a link: one factor (`mail`), so that a second one is still
    asked for. With `signup`, somebody new gets an account by it. `allowed` says which users may sign in so.

    Raises `TypeError` for an `allowed` that is not a function of a user.
    """

    def __init__(self, *, signup: bool = False, allowed: Callable[[Any], bool] | None = None) -> None:
        require_callable("allowed", allowed, "lambda user: not user.is_superuser")
        super().__init__(
            name="email_sign_in",
            errors=EmailSignInError,
            events=EmailSignInEventKind,
            mails=EmailSignInMail,
            routers=_routers,
            slots=(Slot(place="sign_in", template="email_sign_in_way.html"),),
            guarded=(EmailSignInRequest,),
            answering=(EmailSignInCode, EmailSignInLink),
            options=EmailSignInOptions(signup, allowed or _everybody),
            templates=Path(__file__).parent / "templates",
            words=Path(__file__).parent / "words",
        )
