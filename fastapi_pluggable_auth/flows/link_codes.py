"""Codes beside the links of mails, for clients that have a place to enter one. A code stands for its link: it
is good for what that is good for, while that works, and spent with it.

The client that asks holds a challenge, without which its code is worth nothing; a change of the address is
bound to the session that asked. So nobody guesses from elsewhere, and no mail that somebody else asked for
makes a code useless.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from copy import copy
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID, uuid4

from ..auth import Auth, autonomous
from ..email.kinds import MailKind
from ..email.tokens import Purpose, link_state
from ..errors import AuthError, ErrorCode
from ..events import EventKind, Observation, Outcome
from ..models import AbstractPending, AbstractUser, exact, matching
from ..security.plaintext import Plaintext
from .authentication import Authentication
from .mailbox import signed_up_with
from .mailed_codes import LIFETIME, check_guess
from .pending import begin, find, find_by_id, id_of, new_value
from .throttle import may_mail

_MAILS: Final = {Purpose.VERIFY: MailKind.VERIFY, Purpose.RESET: MailKind.RESET}

_EVENTS: Final = {
    Purpose.VERIFY: EventKind.EMAIL_VERIFICATION,
    Purpose.RESET: EventKind.PASSWORD_RESET,
    Purpose.EMAIL_CHANGE: EventKind.EMAIL_CHANGE,
}
"""What a refused code is reported as a failure of."""


@dataclass(frozen=True, slots=True)
class StoodFor:
    """The token of the link that a code stands for. `signed_up` says that the client which asked for the code
    is the one that signed up."""

    token: Plaintext
    signed_up: bool


async def mail_with_code(auth: Auth, purpose: Purpose, email: str, shown: Plaintext | None = None) -> str:
    """Mails a link and a code, as `notices.mail_on_request` does a link, and gives the challenge that the
    code answers. It is there for any address, and the work is the same. A client that signed up has `shown`
    the challenge that it got then."""
    may = await may_mail(auth, _MAILS[purpose], email)
    user = await exact(auth.tables.user.all(), email=email)
    signed_up = user is not None and shown is not None and signed_up_with(user, shown.look())
    challenge = new_value()
    said = _said(purpose, email, user if may else None, signed_up=signed_up)
    await _mail(auth, purpose, email, challenge, said, uuid4() if may else None)
    return challenge


@autonomous
async def _mail(
    auth: Auth, /, purpose: Purpose, email: str, challenge: str, said: dict[str, Any], mail_id: UUID | None
) -> bool:
    kind = _kind(purpose)
    await begin(auth, kind, said, user_id=None, lifetime=LIFETIME, value=challenge)
    if mail_id is not None:
        await auth.outbox.add(_MAILS[purpose], email, mail_id=mail_id, waiting=id_of(kind, challenge))
    return True


async def begin_signup_code(auth: Auth, challenge: str, email: str, user: AbstractUser | None) -> str:
    """What waits for the code of a signup, for the client that has made it; gives the id for its mail. None
    is for a signup that made no account, and looks as if."""
    kind, said = _kind(Purpose.VERIFY), _said(Purpose.VERIFY, email, user, signed_up=True)
    await begin(auth, kind, said, user_id=None, lifetime=LIFETIME, value=challenge)
    return id_of(kind, challenge)


async def begin_change_code(auth: Auth, user: AbstractUser, email: str, session_id: UUID | None) -> str:
    """What waits for the code of a change of the address, in the place of what did before; gives the id for
    its mail. Belongs inside the transaction that keeps the new address pending."""
    kind, changing = _kind(Purpose.EMAIL_CHANGE), copy(user)
    changing.update_from_dict({"pending_email": email, "pending_email_session": session_id})
    await auth.tables.pending.filter(user_id=user.id, kind=kind).delete()
    said = _said(Purpose.EMAIL_CHANGE, email, changing) | {"session": str(session_id)}
    return id_of(kind, await begin(auth, kind, said, user_id=user.id, lifetime=LIFETIME))


async def open_code(auth: Auth, purpose: Purpose, challenge: Plaintext, code: Plaintext) -> StoodFor:
    """What this code stands for. It is spent with the link, and right until then. Raises `AuthError`:
    MAILED_CODE_REFUSED, MAILED_CODE_EXPIRED, THROTTLED."""
    async with _reported(auth, purpose) as observation:
        found = await find(auth, _kind(purpose), challenge)
        if found is None:
            raise AuthError(ErrorCode.MAILED_CODE_EXPIRED)
        return await _open(auth, purpose, *found, code, observation)


async def open_change_code(auth: Auth, authentication: Authentication, code: Plaintext) -> StoodFor:
    """The same for a change of the address, in the session that asked for it. Raises as `open_code`."""
    async with _reported(auth, Purpose.EMAIL_CHANGE) as observation:
        found = await _of_change(auth, authentication)
        if found is None:
            raise AuthError(ErrorCode.MAILED_CODE_EXPIRED)
        return await _open(auth, Purpose.EMAIL_CHANGE, *found, code, observation)


async def change_has_code(auth: Auth, authentication: Authentication) -> bool:
    """Whether the change of the address that this session asked for still waits for a code."""
    return await _of_change(auth, authentication) is not None


async def _of_change(
    auth: Auth, authentication: Authentication
) -> tuple[AbstractPending, dict[str, Any]] | None:
    kind, user_id = _kind(Purpose.EMAIL_CHANGE), authentication.user.id
    newest = auth.tables.pending.filter(user_id=user_id, kind=kind).order_by("-expires_at").limit(1)
    rows = matching(await newest, user_id=user_id, kind=kind)
    found = await find_by_id(auth, kind, rows[0].id) if rows else None
    return found if found and found[1]["session"] == str(authentication.session_id) else None


@contextmanager
def as_code() -> Iterator[None]:
    """Around the use of a link by its code: one that was spent meanwhile is refused as a code."""
    try:
        yield
    except AuthError as error:
        if error.code is ErrorCode.INVALID_LINK:
            raise AuthError(ErrorCode.MAILED_CODE_EXPIRED) from error
        raise


async def _open(
    auth: Auth,
    purpose: Purpose,
    pending: AbstractPending,
    said: dict[str, Any],
    code: Plaintext,
    observation: Observation,
) -> StoodFor:
    observation.user_id = None if said["user"] is None else UUID(said["user"])
    await check_guess(auth, pending, said["email"], code, again=True)
    if observation.user_id is None:  # nobody was mailed this code: it was guessed
        raise AuthError(ErrorCode.MAILED_CODE_REFUSED)
    user = await exact(auth.tables.user.all(), id=observation.user_id, is_active=True)
    if user is None or link_state(purpose, user).hex() != said["state"]:
        raise AuthError(ErrorCode.MAILED_CODE_EXPIRED)
    token = auth.links.generate(purpose, user.id, link_state(purpose, user))
    return StoodFor(Plaintext(token), said["signed_up"])


@asynccontextmanager
async def _reported(auth: Auth, purpose: Purpose) -> AsyncIterator[Observation]:
    """Reports a refusal; what is right is reported by what the link is for."""
    observation = Observation()
    try:
        yield observation
    except AuthError as error:
        await auth.events.emit(_EVENTS[purpose], Outcome.FAILURE, observation, reason=error.code.code)
        raise


def _said(
    purpose: Purpose, email: str, user: AbstractUser | None, *, signed_up: bool = False
) -> dict[str, Any]:
    """What must be so when the code is entered: the state that its link is bound to, too."""
    state = None if user is None else link_state(purpose, user).hex()
    whose = None if user is None else str(user.id)
    return {"email": email, "user": whose, "state": state, "signed_up": signed_up}


def _kind(purpose: Purpose) -> str:
    """Of what waits."""
    return f"{purpose} code"
