"""Signing in: the one gate that every way of logging in goes through."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from tortoise.expressions import F

from ..auth import Auth, transactional
from ..email.kinds import MailKind
from ..email.outbox import collect_mails
from ..errors import AuthError, ErrorCode
from ..events import EventKind, Observation
from ..hooks import BeforeLogin, LoggedIn
from ..models import AbstractUser, exact
from ..models.user import U
from ..security.jwt import Transport, subject_of
from ..security.plaintext import Plaintext
from ..security.recovery import is_recovery_code
from .authentication import Authentication, observed, refuse_impersonation
from .devices import Device, remember_device
from .guesses import Guess, counted_guess
from .notices import mail_on_request
from .passwords import check_password, is_rehashed
from .sessions import TokenSet, start_session
from .twofa import Accepted, accept_code, may_pass, store_accepted, tell_accepted

CHALLENGE: Final = "two-factor-challenge+jwt"
"""The type of the token between the two steps; nothing else takes it."""

CHALLENGE_LIFETIME: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Challenge:
    """The password was right, and a code is needed: `answer_challenge` takes this token with one."""

    token: str = field(repr=False)


class CodeNeededError(AuthError):
    """TWO_FACTOR_REQUIRED, after the right password of this user."""

    def __init__(self, user: AbstractUser) -> None:
        super().__init__(ErrorCode.TWO_FACTOR_REQUIRED)
        self.user = user


async def login(
    auth: Auth,
    name: str,
    password: str | Plaintext,
    code: str | Plaintext | None = None,
    device: Device | None = None,
    *,
    transport: Transport = Transport.BEARER,
) -> TokenSet:
    """Starts a session. `name` is an address in its normal form or, where users have one, a folded username;
    `code` is a time-based or a recovery code; a `device` is known from now on. `transport` is how the client
    gets the tokens: they are good for no other.

    Raises `AuthError`: INVALID_CREDENTIALS for an unknown or disabled account, a wrong password or code, all
    in the same time; EMAIL_NOT_VERIFIED (never with `prevent_enumeration`: a new link is mailed instead),
    PASSWORD_RESET_REQUIRED and TWO_FACTOR_REQUIRED only after the right password; what a hook
    refuses, only after the right code too; THROTTLED, PASSWORD_LOCKED,
    CODES_LOCKED, OVERLOADED and TWO_FACTOR_UNAVAILABLE.
    """
    password, code = Plaintext.of(password), _held(code)
    async with auth.events.observe(EventKind.LOGIN) as observation:
        user = await account_named(auth, name)
        async with counted_guess(auth, user, name, device=device) as guess:
            observation.user_id = user.id if user else None
            if user is None:
                await auth.hasher.verify(password, None)
                raise AuthError(ErrorCode.INVALID_CREDENTIALS)
            if not await check_password(auth, user, password) or not user.is_active:
                raise AuthError(ErrorCode.INVALID_CREDENTIALS)
            accepted, tokens = await _admit(auth, user, code, observation, guess, device, transport)
        await _tell(auth, accepted, observation)
    await auth.hooks.fire(LoggedIn, user, tokens.session_id, observation.factors)
    return tokens


async def begin_login(
    auth: Auth,
    email: str,
    password: str | Plaintext,
    device: Device | None = None,
    *,
    transport: Transport = Transport.BEARER,
) -> TokenSet | Challenge:
    """The first of two steps, for pages: starts a session or, while two-factor is active, gives a challenge
    that lasts five minutes, for one success (ASVS 6.6.2). Raises like `login`."""
    password = Plaintext.of(password)
    try:
        return await login(auth, email, password, device=device, transport=transport)
    except CodeNeededError as needed:
        now, user = auth.clock(), needed.user
        expires_at = now + CHALLENGE_LIFETIME
        state = _challenge_state(user)
        return Challenge(
            auth.signer.sign(CHALLENGE, user.id, issued_at=now, expires_at=expires_at, state=state)
        )


async def answer_challenge(
    auth: Auth,
    challenge: str | Plaintext,
    code: str | Plaintext,
    device: Device | None = None,
    *,
    transport: Transport = Transport.BEARER,
) -> TokenSet:
    """The second step: starts a session. `code` is a time-based or a recovery code.

    Raises `AuthError`: INVALID_TOKEN when the challenge is no longer good, so that the password is needed
    again; INVALID_CREDENTIALS for a wrong code; else like `login`.
    """
    challenge, code = Plaintext.of(challenge), Plaintext.of(code)
    async with auth.events.observe(EventKind.LOGIN) as observation:
        claims = auth.signer.verify(challenge.look(), CHALLENGE)
        user = await exact(auth.tables.user.all(), id=subject_of(claims), is_active=True)
        if user is None or claims.get("state") != _challenge_state(user):
            raise AuthError(ErrorCode.INVALID_TOKEN)
        observation.user_id = user.id
        async with counted_guess(auth, user, device=device) as guess:
            unchanged = {"last_login_at": user.last_login_at, "access_epoch": user.access_epoch}
            accepted, tokens = await _admit(
                auth, user, code, observation, guess, device, transport, **unchanged
            )
        await _tell(auth, accepted, observation)
    await auth.hooks.fire(LoggedIn, user, tokens.session_id, observation.factors)
    return tokens


def _challenge_state(user: AbstractUser) -> str:
    """A digest of what must not have changed between the steps: another password, another or no second
    factor, a login, or an end of all access ends all challenges."""
    moments = (user.totp_enrolled_at, user.last_login_at)
    stamps = (moment.isoformat() if moment else "" for moment in moments)
    parts = (CHALLENGE, user.password_id, str(user.two_factor_active), str(user.access_epoch), *stamps)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


async def reauthenticate(
    auth: Auth,
    authentication: Authentication,
    password: str | Plaintext,
    code: str | Plaintext | None = None,
) -> None:
    """Makes the session's login recent again. Raises `AuthError(REAUTHENTICATION_FAILED)` when the password
    or code is wrong, TWO_FACTOR_REQUIRED when the code is missing, OVERLOADED, TWO_FACTOR_UNAVAILABLE,
    IMPERSONATION_FORBIDDEN."""
    password, code = Plaintext.of(password), _held(code)
    user = authentication.user
    async with observed(auth, EventKind.REAUTHENTICATION, authentication) as observation:
        refuse_impersonation(authentication)
        try:
            async with counted_guess(auth, user, session_id=authentication.session_id) as guess:
                if not await check_password(auth, user, password):
                    raise AuthError(ErrorCode.INVALID_CREDENTIALS)
                observation.factors = ("pwd",)
                accepted = await _second_factor(auth, user, code, guess)
                try:
                    await _renew(auth, authentication, accepted)
                except AuthError:
                    if not await is_rehashed(auth, user):
                        raise
                    await _renew(auth, authentication, accepted)
        except AuthError as error:
            if error.code is ErrorCode.INVALID_CREDENTIALS:
                raise AuthError(ErrorCode.REAUTHENTICATION_FAILED) from error
            raise
        await _tell(auth, accepted, observation)


async def account_named(auth: Auth[U], name: str) -> U | None:
    """The account of an address in its normal form or, where users have one, of a folded username."""
    column = "email" if "@" in name or not auth.has_usernames else "username"
    return await exact(auth.tables.user.all(), **{column: name})


async def _admit(
    auth: Auth,
    user: AbstractUser,
    code: Plaintext | None,
    observation: Observation,
    guess: Guess,
    device: Device | None,
    transport: Transport,
    **unchanged: object,
) -> tuple[Accepted | None, TokenSet]:
    """The session of an active user who gave the right password, where nothing else is in the way and what
    must be `unchanged` is."""
    observation.factors = ("pwd",)
    if user.password_reset_required:
        raise AuthError(ErrorCode.PASSWORD_RESET_REQUIRED)
    if auth.settings.require_verified_email and not user.is_verified:
        raise await _unverified(auth, user)
    accepted = await _second_factor(auth, user, code, guess)
    if auth.hooks.hear(BeforeLogin):
        if accepted is not None and not await may_pass(auth, user, accepted):
            raise AuthError(ErrorCode.INVALID_CREDENTIALS)
        await auth.hooks.fire(BeforeLogin, user)
    try:
        tokens = await _start(auth, user, accepted, device, guess.device_id, transport, **unchanged)
    except AuthError:
        if not await is_rehashed(auth, user):
            raise
        tokens = await _start(auth, user, accepted, device, guess.device_id, transport, **unchanged)
    observation.session_id = tokens.session_id
    return accepted, tokens


def _held(code: str | Plaintext | None) -> Plaintext | None:
    return None if code is None else Plaintext.of(code)


async def _unverified(auth: Auth, user: AbstractUser) -> AuthError:
    """The refusal. With `prevent_enumeration` it is that of a wrong password, as whoever has just signed up
    with an address would learn that it was new; its owner gets another link, behind the answer."""
    if not auth.settings.prevent_enumeration:
        return AuthError(ErrorCode.EMAIL_NOT_VERIFIED)
    await auth.autonomous.after_answer(lambda: _mail_link(auth, user.email))
    return AuthError(ErrorCode.INVALID_CREDENTIALS)


async def _mail_link(auth: Auth, email: str) -> None:
    with collect_mails() as mails:
        await mail_on_request(auth, MailKind.VERIFY, email)
    await auth.dispatcher.after_response(mails)


async def _second_factor(
    auth: Auth, user: AbstractUser, code: Plaintext | None, guess: Guess
) -> Accepted | None:
    """What follows from the code; None where no second factor is asked for."""
    if not user.two_factor_active:
        return None
    if code is None:
        raise CodeNeededError(user)
    await guess.count_code(recovery=is_recovery_code(code.look()))
    accepted = accept_code(auth, user, code.take())
    if accepted is None:
        raise AuthError(ErrorCode.INVALID_CREDENTIALS)
    return accepted


async def _tell(auth: Auth, accepted: Accepted | None, observation: Observation) -> None:
    if accepted is not None:
        observation.factors = ("pwd", accepted.factor)
        await tell_accepted(auth, accepted, observation)


@transactional
async def _start(
    auth: Auth,
    /,
    user: AbstractUser,
    accepted: Accepted | None,
    device: Device | None,
    known: UUID | None,
    transport: Transport,
    **unchanged: object,
) -> TokenSet:
    await _still_right(auth, user, accepted, opens=True, **unchanged)
    tokens = await start_session(auth, user, transport=transport)
    if device is None:
        return tokens
    session_id = tokens.session_id
    value = await remember_device(auth, user.id, device, known=known, session_id=session_id)
    return replace(tokens, device=value)


@transactional
async def _renew(auth: Auth, authentication: Authentication, accepted: Accepted | None) -> None:
    await _still_right(auth, authentication.user, accepted)
    if authentication.session_id is not None:
        renewed = auth.tables.session.filter(id=authentication.session_id)
        await renewed.update(authenticated_at=auth.clock())


async def _still_right(
    auth: Auth,
    /,
    user: AbstractUser,
    accepted: Accepted | None,
    *,
    opens: bool = False,
    **unchanged: object,
) -> None:
    """Writes the login, which `opens` a session or not, only where password and second factor, and what else
    must be `unchanged`, still are what was checked.

    The row is locked from here on, so that a password change, a reset or the same code in another request
    comes before (and this login fails) or after (and ends this session).
    """
    written: dict[str, Any] = {"last_login_at": auth.clock()}
    if opens:
        written["sessions_opened"] = F("sessions_opened") + 1
    if not await store_accepted(
        auth,
        user,
        accepted or Accepted(),
        keep=None,
        changes=written,
        hashed_password=user.hashed_password,
        is_active=True,
        password_reset_required=False,
        **unchanged,
    ):
        raise AuthError(ErrorCode.INVALID_CREDENTIALS)
