"""Verifying an address, and finding the account of a mailed link."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from ..auth import Auth, transactional
from ..email.kinds import MailKind
from ..email.tokens import Link, Purpose, link_state
from ..errors import AuthError, ErrorCode
from ..events import EventKind
from ..features.feature import LinkTable
from ..hooks import EmailVerified
from ..models import AbstractUser, exact
from ..security.plaintext import Plaintext
from .ends import End, end_access, without_begun
from .guesses import counted_guess
from .link_codes import as_code, mail_with_code, open_code
from .mailbox import signed_up_with, verified
from .notices import mail_on_request
from .passwords import check_password


@dataclass(frozen=True, slots=True)
class Verified:
    """The account. It is `untouched` where the browser of the signup has verified it and nothing of it has
    ended since: its password still is the one that was chosen there."""

    user: AbstractUser
    untouched: bool


async def owner_of(auth: Auth, purpose: LinkTable, token: str | Plaintext) -> AbstractUser:
    """The account that a mailed link still works for; raises `AuthError(INVALID_LINK)`. Changes nothing."""
    token = Plaintext.of(token)
    link = auth.links.read(purpose, token.look())
    user = await exact(auth.tables.user.all(), id=link.user_id, is_active=True)
    if user is None or not _still_valid(purpose, link, user):
        raise AuthError(ErrorCode.INVALID_LINK)
    return user


async def verify_email(auth: Auth, token: str | Plaintext) -> None:
    """Marks the account verified, once, no matter who signed up: for programs, where the link is proof
    enough. The password stays; what was begun with it ends, which is every session, token and pending
    address. Raises `AuthError(INVALID_LINK)`."""
    async with _verifying(auth, Plaintext.of(token)) as user:
        await _verify(auth, user, keep=False)


async def verify_signup(
    auth: Auth,
    token: str | Plaintext,
    binding: str | None,
    password: str | Plaintext | None = None,
    *,
    shows: Callable[[AbstractUser], Awaitable[None]] | None = None,
    signed_up: bool = False,
) -> Verified:
    """Marks the account verified for the one who signed up. In the browser with the `binding` of the signup,
    or a client that is known to have `signed_up`, all stays as it is; elsewhere the password says so, or what
    a feature makes of the account (`shows`, which raises), and what was begun with it ends. So nobody
    activates the password of a stranger who signed up first. Raises `AuthError`: INVALID_LINK,
    SIGNUP_ELSEWHERE without either, WRONG_PASSWORD, THROTTLED, OVERLOADED."""
    token, password = Plaintext.of(token), None if password is None else Plaintext.of(password)
    async with _verifying(auth, token) as user:
        here = signed_up or signed_up_with(user, binding)
        if not here and shows is not None:
            await shows(user)
        elif not here:
            await _require_password(auth, user, password)
        untouched = here and user.access_epoch == 0
        await _verify(auth, user, keep=here)
    return Verified(user, untouched)


async def verify_with_code(
    auth: Auth,
    challenge: str | Plaintext,
    code: str | Plaintext,
    binding: str | None = None,
    password: str | Plaintext | None = None,
) -> Verified:
    """Does what `verify_signup` does with the link that the code stands for. A client that signed up is known
    by its challenge, too. Raises `AuthError`: MAILED_CODE_REFUSED, MAILED_CODE_EXPIRED, SIGNUP_ELSEWHERE,
    WRONG_PASSWORD, THROTTLED, OVERLOADED."""
    link = await open_code(auth, Purpose.VERIFY, Plaintext.of(challenge), Plaintext.of(code))
    with as_code():
        return await verify_signup(auth, link.token, binding, password, signed_up=link.signed_up)


@asynccontextmanager
async def _verifying(auth: Auth, token: Plaintext) -> AsyncIterator[AbstractUser]:
    """Wraps what verifies the account of the link, with its event and its hook."""
    async with auth.events.observe(EventKind.EMAIL_VERIFICATION) as observation:
        user = await owner_of(auth, Purpose.VERIFY, token)
        observation.user_id = user.id
        yield user
    await auth.hooks.fire(EmailVerified, user)


async def _require_password(auth: Auth, user: AbstractUser, password: Plaintext | None) -> None:
    if password is None:
        raise AuthError(ErrorCode.SIGNUP_ELSEWHERE)
    async with counted_guess(auth, user):
        if not await check_password(auth, user, password):
            raise AuthError(ErrorCode.WRONG_PASSWORD)


async def resend_verification(auth: Auth, email: str) -> None:
    """Mails a new link if there is an account that needs one. Never says whether there is, and does the same
    work either way."""
    await mail_on_request(auth, MailKind.VERIFY, email)


async def mail_verification_code(auth: Auth, email: str, shown: str | Plaintext | None = None) -> str:
    """The same with a code beside the link; gives the challenge that it answers. A client that has `shown`
    the challenge of its signup is known again."""
    shown = None if shown is None else Plaintext.of(shown)
    return await mail_with_code(auth, Purpose.VERIFY, email, shown)


async def _verify(auth: Auth, user: AbstractUser, *, keep: bool) -> None:
    changes = verified(auth)
    await _mark_verified(auth, user, changes, keep=keep)
    user.update_from_dict({**changes, **({} if keep else await without_begun(auth, user))})


@transactional
async def _mark_verified(auth: Auth, user: AbstractUser, changes: dict[str, Any], *, keep: bool) -> None:
    unverified = auth.tables.user.filter(id=user.id, email=user.email, is_verified=False)
    if not await unverified.update(**changes):
        raise AuthError(ErrorCode.INVALID_LINK)
    if not keep:
        await end_access(auth, user.id, End.VERIFIED)


def _still_valid(purpose: LinkTable, link: Link, user: AbstractUser) -> bool:
    if link.state is not None:
        return link.state == link_state(purpose, user)
    # Made without a look at the account, by a helper or by 0.1.
    if link.issued_at is None or purpose not in (Purpose.VERIFY, Purpose.RESET):
        return False
    if purpose is Purpose.VERIFY and user.is_verified:
        return False
    changes = (user.verified_at, user.password_changed_at)
    return all(change is None or link.issued_at > change for change in changes)
