"""What the bot check brings."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field, Strict

from ...arguments import require_callable, require_instance
from ...auth import Auth
from ..feature import Asked, Feature, Guard
from .names import ACTIONS, FIELD, MAXIMUM_LENGTH, NAME, PATTERN, Action, BotCheckError
from .options import BotCheckOptions, Check, keys_of, options_of
from .services import SiteVerify, Widget
from .settings import settings_for

NO_WIDGET = Widget(script="", css_class="", form_field=FIELD, sources={})
"""Of an app without pages."""

OTHERS: Collection[Action] = ACTIONS - {"signup"}


def _routers(auth: Auth) -> Iterable[APIRouter]:
    """None: what is missing is found as the app starts."""
    options = options_of(auth)
    if isinstance(options.check, SiteVerify):
        keys_of(auth, options.check)
    if auth.pages and options.widget is None:
        raise ValueError("The pages need a widget that makes the token: BotCheck(check, widget=Widget(...)).")
    return ()


async def _check(auth: Auth, asked: Asked) -> None:
    from .checking import BotChecker  # here, as httpx takes long to import

    await auth.service(BotChecker).require_human(asked)


def _in_the_form(auth: Auth, action: str) -> Mapping[str, Any]:
    options = options_of(auth)
    widget = options.widget or NO_WIDGET
    if isinstance(options.check, SiteVerify):
        widget = replace(widget, site_key=keys_of(auth, options.check).site_key)
    return {"widget": widget, "action": action}


class BotCheck(Feature):
    """Asks whether somebody is human: at a signup, for a mail, and at a login after `login_after` wrong
    guesses at the account within a day (0: always). `check` is a service, such as `Turnstile()`, or a
    function of the token, the action and the client's address that says True for a human; the pages then need
    a `widget`. `open_when_down` are the actions that go on where the check does not answer.

    Raises `TypeError` for a check of another kind, and `ValueError` for an action that there is not and for a
    number below 0; where the app starts, also for a service without keys, and for pages without a widget.
    """

    def __init__(
        self,
        check: SiteVerify | Check,
        *,
        widget: Widget | None = None,
        login_after: int = 3,
        open_when_down: Collection[Action] = OTHERS,
    ) -> None:
        if isinstance(check, SiteVerify):
            widget = widget or check.widget
        else:
            require_callable("check", check, "async def is_human(token, action, address) -> bool")
        require_instance("login_after", login_after, int, "write login_after=3.")
        if login_after < 0:
            raise ValueError("login_after is how many wrong guesses come first: 0 or more.")
        if unknown := frozenset(open_when_down) - ACTIONS:
            raise ValueError(f"{min(unknown)!r} is no action of the bot check: {', '.join(sorted(ACTIONS))}.")
        shown = widget or NO_WIDGET
        guard = Guard(
            field=FIELD,
            type=Annotated[str, Strict(), Field(max_length=MAXIMUM_LENGTH, pattern=PATTERN)],
            form_field=shown.form_field,
            check=_check,
            errors=tuple(BotCheckError),
            login_after=login_after,
            template="bot_check.html",
            values=_in_the_form,
            sources=shown.sources,
        )
        super().__init__(
            name=NAME,
            settings=settings_for(check) if isinstance(check, SiteVerify) else None,
            errors=BotCheckError,
            guard=guard,
            options=BotCheckOptions(check, widget, login_after, frozenset(open_when_down)),
            routers=_routers,
            templates=Path(__file__).parent / "templates",
            words=Path(__file__).parent / "words",
        )
