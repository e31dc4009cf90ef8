"""Signing in with a code or a link that was mailed."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeAlias
from uuid import UUID

from ...auth import Auth, transactional
from ...errors import AuthError, ErrorCode
from ...events import EventKind, Observation, Outcome
from ...flows.devices import Device
from ...flows.gate import Entry, FactorNeeded, Proof, SignedIn, admit, entering, factor_required
from ...flows.guesses import counted_code
from ...flows.login import Challenge, begin_challenge
from ...flows.mailbox import claim_mailbox, is_claimable, verified
from ...flows.mailed_codes import LIFETIME, check_guess, code_of, find_by_link, mail_code
from ...flows.pending import begin, find, take
from ...flows.session_tokens import TokenSet
from ...flows.signup import signup
from ...flows.throttle import may_mail
from ...hooks import EmailVerified, MailboxClaimed
from ...models import AbstractPending, AbstractUser, exact
from ...security.jwt import Transport
from ...security.plaintext import Plaintext
from .names import FACTOR, WITHHELD, EmailSignInError, EmailSignInEventKind, EmailSignInMail
from .options import options_of

KIND: Final = "email_sign_in"


@dataclass(frozen=True, slots=True)
class Opened:
    """A link that still works: whose account it is for, and the code for where it was asked for, None where
    the app has none or nobody has asked."""

    email: str
    code: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class InSameRequest:
    """The client answers for a second factor with the code of the mail, and comes again with it where there
    is no answer yet."""

    answer: Plaintext | None


Second: TypeAlias = InSameRequest | None
"""None where a challenge asks for a second factor, as on pages."""


async def ask(auth: Auth, email: str, *, accept_language: str = "") -> str:
    """Mails a code and a link, or what the app has of both, to the owner of an account who may sign in so or,
    where such may sign up, to anybody; gives the challenge that the code answers. Never says whether it did,
    and does the same work either way."""
    async with auth.events.observe(EmailSignInEventKind.EMAIL_SIGN_IN_REQUEST):
        options = options_of(auth)
        user = await exact(auth.tables.user.all(), email=email)
        if not await may_mail(auth, EmailSignInMail.EMAIL_SIGN_IN, email):
            return await begin(auth, KIND, {"email": None}, user_id=None, lifetime=LIFETIME)
        mail, said = options.mail, dict[str, Any]()
        if user is not None and not options.allowed(user):
            said[WITHHELD] = True
        elif user is None and _may_sign_up(auth, email):
            mail, said["language"] = options.sign_up_mail, auth.mailer.language_for(accept_language)
        return await mail_code(auth, KIND, mail, email, {"email": email}, **said)


async def mail_link(auth: Auth, user: AbstractUser) -> bool:
    """Mails a link alone to a user whom somebody helps to get in; whether it did: False for one who is
    disabled, or may not sign in so. Whoever helps learns nothing that signs in."""
    if not (user.is_active and options_of(auth).allowed(user)):
        return False
    async with auth.events.observe(EmailSignInEventKind.EMAIL_SIGN_IN_REQUEST) as observation:
        observation.user_id = user.id
        said = {"email": user.email, "helped": True}
        await mail_code(auth, KIND, EmailSignInMail.EMAIL_SIGN_IN_LINK, user.email, said, user_id=user.id)
    return True


async def sign_in_with_code(
    auth: Auth,
    challenge: Plaintext,
    code: Plaintext,
    device: Device | None = None,
    *,
    transport: Transport,
    accept_language: str = "",
    second: Second = None,
) -> TokenSet | Challenge:
    """Starts a session of the account with the address. Where a second factor is needed that is not there, it
    gives a challenge or, where it is asked for in the same request, raises TWO_FACTOR_REQUIRED, which spends
    nothing. Raises `AuthError`: MAILED_CODE_REFUSED, MAILED_CODE_EXPIRED, THROTTLED, what a hook refuses, and
    as the gate does."""
    async with _entering(auth, transport, device, second) as entry:
        found = await find(auth, KIND, challenge)
        if found is None:
            raise AuthError(ErrorCode.MAILED_CODE_EXPIRED)
        pending, email = found[0], found[1]["email"]
        entry.observation.user_id = await _id_of(auth, email)
        await check_guess(auth, pending, email, code)
        if email is None:
            raise AuthError(ErrorCode.MAILED_CODE_REFUSED)
        admitted = await _admit(auth, pending, email, accept_language, entry)
    return await _answer(auth, admitted, second)


async def open_link(auth: Auth, token: Plaintext) -> Opened:
    """What a link shows, which changes nothing: it signs nobody in where it was not asked for. Raises
    `AuthError(SIGN_IN_LINK_REFUSED)`."""
    pending, said = await _behind(auth, token)
    asked_for = options_of(auth).code and not said.get("helped")
    return Opened(said["email"], code_of(auth, pending) if asked_for else None)


async def sign_in_with_link(
    auth: Auth,
    token: Plaintext,
    device: Device | None = None,
    *,
    transport: Transport,
    accept_language: str = "",
    second: Second = None,
) -> TokenSet | Challenge:
    """The same for the browser in which the link was opened, and whose user has asked for it there. Raises
    SIGN_IN_LINK_REFUSED in place of MAILED_CODE_REFUSED, MAILED_CODE_EXPIRED."""
    async with _entering(auth, transport, device, second) as entry:
        pending, said = await _behind(auth, token)
        admitted = await _admit(auth, pending, said["email"], accept_language, entry)
    return await _answer(auth, admitted, second)


async def _behind(auth: Auth, token: Plaintext) -> tuple[AbstractPending, Any]:
    found = await find_by_link(auth, KIND, token)
    if found is None or found[1]["email"] is None:
        raise AuthError(EmailSignInError.SIGN_IN_LINK_REFUSED)
    return found


async def _id_of(auth: Auth, email: str | None) -> UUID | None:
    user = None if email is None else await exact(auth.tables.user.all(), email=email)
    return None if user is None else user.id


def _entering(
    auth: Auth, transport: Transport, device: Device | None, second: Second
) -> AbstractAsyncContextManager[Entry]:
    answer = second.answer if isinstance(second, InSameRequest) else None
    return entering(auth, transport=transport, device=device, code=answer)


async def _admit(
    auth: Auth, pending: AbstractPending, email: str, accept_language: str, entry: Entry
) -> SignedIn | FactorNeeded:
    user = await exact(auth.tables.user.all(), email=email)
    if user is None and _may_sign_up(auth, email):
        user = await _sign_up(auth, email, accept_language)
    if user is None or not options_of(auth).allowed(user):
        raise AuthError(ErrorCode.MAILED_CODE_EXPIRED)
    entry.observation.user_id = user.id
    owner = await _own(auth, user) if user.is_active and not user.is_verified else user
    proof = Proof(
        user=owner, factors=(FACTOR,), unchanged={"email": email}, spends=partial(take, pending=pending)
    )
    if entry.code is None:
        return await admit(auth, proof, entry)
    async with counted_code(auth, owner, device=entry.device) as entry.guess:
        return await admit(auth, proof, entry)


async def _answer(auth: Auth, admitted: SignedIn | FactorNeeded, second: Second) -> TokenSet | Challenge:
    if not isinstance(admitted, FactorNeeded):
        return admitted.tokens
    if second is None:
        return await begin_challenge(auth, admitted.proof)
    raise await factor_required(auth, admitted)


def _may_sign_up(auth: Auth, email: str) -> bool:
    """Whether somebody new with this address may have an account and sign in to it: asked of one that is not
    stored, so that none is made in vain."""
    options = options_of(auth)
    if not options.signup or auth.settings.signup != "open":
        return False
    return options.allowed(auth.tables.user(email=email, is_verified=True))


async def _sign_up(auth: Auth, email: str, accept_language: str) -> AbstractUser | None:
    first = _FirstMail({"is_verified": True, "verified_at": auth.clock()})
    try:
        await signup(auth, email, None, accept_language, instead=first)
    except AuthError as error:
        if error.code is not ErrorCode.EMAIL_TAKEN:
            raise
    # By the address, as another request with the code may have been faster, which is not always reported.
    return await exact(auth.tables.user.all(), email=email)


@dataclass(frozen=True, slots=True)
class _FirstMail:
    """An account whose only way in, at first, is its mailbox."""

    columns: dict[str, Any]

    async def store(self, auth: Auth, user: AbstractUser) -> None:
        """There is nothing more to store."""


async def _own(auth: Auth, user: AbstractUser) -> AbstractUser:
    """The account of the owner of the mailbox: what a stranger may have put there is gone."""
    claims = is_claimable(auth, user)
    if not await _take_over(auth, user, claims=claims):
        raise AuthError(ErrorCode.MAILED_CODE_EXPIRED)
    now = await exact(auth.tables.user.all(), id=user.id)
    if now is None:
        raise AuthError(ErrorCode.MAILED_CODE_EXPIRED)
    if claims:
        await auth.events.emit(EventKind.MAILBOX_CLAIMED, Outcome.SUCCESS, Observation(user.id))
    await auth.hooks.fire(EmailVerified, now)
    if claims:
        await auth.hooks.fire(MailboxClaimed, now)
    return now


@transactional
async def _take_over(auth: Auth, /, user: AbstractUser, *, claims: bool) -> bool:
    if claims:
        return await claim_mailbox(auth, user) is not None
    unverified = auth.tables.user.filter(id=user.id, email=user.email, is_active=True, is_verified=False)
    return bool(await unverified.update(**verified(auth)))
