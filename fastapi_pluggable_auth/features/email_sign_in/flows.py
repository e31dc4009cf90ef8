"""Signing in with a code or a link that was mailed."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeAlias

from ...auth import Auth, transactional
from ...errors import AuthError, ErrorCode
from ...events import EventKind, Observation, Outcome
from ...flows.devices import Device
from ...flows.gate import FactorNeeded, Proof, admit, entering, factor_required
from ...flows.guesses import counted_code
from ...flows.login import Challenge, begin_challenge
from ...flows.mailbox import claim_mailbox, is_claimable, verified
from ...flows.mailed_codes import LIFETIME, check_code, code_of, find_by_link, mail_code
from ...flows.pending import begin, take
from ...flows.session_tokens import TokenSet
from ...flows.signup import signup
from ...flows.throttle import may_mail
from ...hooks import EmailVerified, MailboxClaimed
from ...models import AbstractPending, AbstractUser, exact
from ...security.jwt import Transport
from ...security.plaintext import Plaintext
from .names import FACTOR, EmailSignInError, EmailSignInEventKind, EmailSignInMail

KIND: Final = "email_sign_in"


@dataclass(frozen=True, slots=True)
class Opened:
    """A link that still works: whose account it is for, and the code for where it was asked for."""

    email: str
    code: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class InSameRequest:
    """The client answers for a second factor with the code of the mail, and comes again with it where there
    is no answer yet."""

    answer: Plaintext | None


Second: TypeAlias = InSameRequest | None
"""None where a challenge asks for a second factor, as on pages."""


async def ask(auth: Auth, email: str, *, may_sign_up: bool, accept_language: str = "") -> str:
    """Mails a code and a link to the owner of an account or, where such may sign up, to anybody; gives the
    challenge that the code answers. Never says whether it did, and does the same work either way."""
    async with auth.events.observe(EmailSignInEventKind.EMAIL_SIGN_IN_REQUEST):
        known = await auth.tables.user.filter(email=email).exists()
        may_sign_up = may_sign_up and auth.settings.signup == "open"
        mail = EmailSignInMail.EMAIL_SIGN_IN if known or not may_sign_up else EmailSignInMail.EMAIL_SIGN_UP
        if not await may_mail(auth, EmailSignInMail.EMAIL_SIGN_IN, email):
            return await begin(auth, KIND, {"email": None}, user_id=None, lifetime=LIFETIME)
        said: dict[str, Any] = {}
        if mail is EmailSignInMail.EMAIL_SIGN_UP:
            said["language"] = auth.mailer.language_for(accept_language)
        return await mail_code(auth, KIND, mail, email, {"email": email}, **said)


async def sign_in_with_code(
    auth: Auth,
    challenge: Plaintext,
    code: Plaintext,
    allowed: Any,
    device: Device | None = None,
    *,
    may_sign_up: bool,
    transport: Transport,
    accept_language: str = "",
    second: Second = None,
) -> TokenSet | Challenge:
    """Starts a session of the account with the address. Where a second factor is needed that is not there, it
    gives a challenge or, where it is asked for in the same request, raises TWO_FACTOR_REQUIRED, which spends
    nothing. Raises `AuthError`: MAILED_CODE_REFUSED, MAILED_CODE_EXPIRED, THROTTLED, what a hook refuses, and
    as the gate does."""
    pending, said = await check_code(auth, KIND, challenge, code)
    if said["email"] is None:
        raise AuthError(ErrorCode.MAILED_CODE_REFUSED)
    return await _enter(
        auth, pending, said["email"], allowed, device, may_sign_up, transport, accept_language, second
    )


async def open_link(auth: Auth, token: Plaintext) -> Opened:
    """What a link shows, which changes nothing: it signs nobody in where it was not asked for. Raises
    `AuthError(SIGN_IN_LINK_REFUSED)`."""
    pending, said = await _behind(auth, token)
    return Opened(said["email"], code_of(auth, pending))


async def sign_in_with_link(
    auth: Auth,
    token: Plaintext,
    allowed: Any,
    device: Device | None = None,
    *,
    may_sign_up: bool,
    transport: Transport,
    accept_language: str = "",
    second: Second = None,
) -> TokenSet | Challenge:
    """The same for the browser in which the link was opened, and whose user has asked for it there. Raises
    SIGN_IN_LINK_REFUSED in place of MAILED_CODE_REFUSED, MAILED_CODE_EXPIRED."""
    pending, said = await _behind(auth, token)
    return await _enter(
        auth, pending, said["email"], allowed, device, may_sign_up, transport, accept_language, second
    )


async def _behind(auth: Auth, token: Plaintext) -> tuple[AbstractPending, Any]:
    found = await find_by_link(auth, KIND, token)
    if found is None or found[1]["email"] is None:
        raise AuthError(EmailSignInError.SIGN_IN_LINK_REFUSED)
    return found


async def _enter(
    auth: Auth,
    pending: AbstractPending,
    email: str,
    allowed: Any,
    device: Device | None,
    may_sign_up: bool,
    transport: Transport,
    accept_language: str,
    second: Second,
) -> TokenSet | Challenge:
    user = await exact(auth.tables.user.all(), email=email)
    if user is None and may_sign_up and auth.settings.signup == "open":
        user = await _sign_up(auth, email, accept_language)
    if user is None or not allowed(user):
        raise AuthError(ErrorCode.MAILED_CODE_EXPIRED)
    answer = second.answer if isinstance(second, InSameRequest) else None
    async with entering(auth, transport=transport, device=device, code=answer) as entry:
        entry.observation.user_id = user.id
        owner = await _own(auth, user) if user.is_active and not user.is_verified else user
        proof = Proof(
            user=owner,
            factors=(FACTOR,),
            unchanged={"email": email},
            spends=partial(take, pending=pending),
        )
        if answer is None:
            admitted = await admit(auth, proof, entry)
        else:
            async with counted_code(auth, owner, device=device) as entry.guess:
                admitted = await admit(auth, proof, entry)
    if not isinstance(admitted, FactorNeeded):
        return admitted.tokens
    if second is None:
        return await begin_challenge(auth, admitted.proof)
    raise await factor_required(auth, admitted)


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
