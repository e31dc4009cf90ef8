"""What features ask first of those who may be anybody."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request
from pydantic import BaseModel

from ..auth import Auth
from ..errors import AuthError
from ..events import EventKind, Observation, Outcome
from ..features.feature import Asked, Guard
from ..schemas import taken
from ..security.plaintext import Plaintext
from .origin import origin_of


async def ask_first(request: Request, auth: Auth, action: str, body: BaseModel | None = None) -> None:
    """Asks it before the flow of this action begins; the answer is in the body or, without one, in the form.
    Raises `AuthError`."""
    for guard in auth.features.guards:
        asked = await _asked(request, auth, guard, action, body)
        try:
            await guard.check(auth, asked)
        except AuthError as error:
            refused = error.code.code
            await auth.events.emit(EventKind.ACCESS, Outcome.FAILURE, Observation(), reason=refused)
            raise


@dataclass(slots=True)
class FirstOfLogin:
    """The same at a login, where it depends on how many guesses at the account were wrong before."""

    request: Request
    auth: Auth
    body: BaseModel | None
    next_is_asked: bool = False
    """Whether one more wrong guess would have it asked."""

    async def __call__(self, wrong: int) -> None:
        """Asks it. Raises `AuthError`."""
        for guard in self.auth.features.guards:
            self.next_is_asked |= wrong + 1 >= guard.login_after
            if wrong >= guard.login_after:
                await guard.check(self.auth, await _asked(self.request, self.auth, guard, "login", self.body))


def first_of_login(request: Request, auth: Auth, body: BaseModel | None = None) -> FirstOfLogin | None:
    """What a login asks first, None where no feature asks anything."""
    return FirstOfLogin(request, auth, body) if auth.features.guards else None


async def _asked(request: Request, auth: Auth, guard: Guard, action: str, body: BaseModel | None) -> Asked:
    answer = await _in_form(request, guard) if body is None else _in_body(body, guard)
    return Asked(action=action, answer=answer, address=origin_of(request, auth).address)


def _in_body(body: BaseModel, guard: Guard) -> Plaintext | None:
    """Nothing in one whose fields came in the query."""
    return taken(body, guard.field) if getattr(body, guard.field, None) else None


async def _in_form(request: Request, guard: Guard) -> Plaintext | None:
    sent = (await request.form()).get(guard.form_field)
    return Plaintext(sent) if isinstance(sent, str) and sent else None
