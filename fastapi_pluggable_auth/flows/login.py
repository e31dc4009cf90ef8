"""Signing in with a password, in one step or two, and showing it again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any, Final

from ..auth import Auth, transactional
from ..errors import AuthError, ErrorCode
from ..events import EventKind
from ..models import AbstractPending, AbstractUser, exact
from ..models.user import U
from ..security.hashing import is_usable
from ..security.jwt import Transport
from ..security.plaintext import Plaintext
from .authentication import Authentication, observed, refuse_impersonation
from .devices import Device
from .gate import (
    FactorNeeded,
    Proof,
    SignedIn,
    admit,
    entering,
    factor_names,
    factor_required,
    renew,
    second_factor,
)
from .guesses import First, counted_guess
from .passwords import check_password
from .pending import attempt, begin, find, take
from .session_tokens import TokenSet

CHALLENGE: Final = "sign_in_challenge"
"""The kind of what waits between the two steps."""

CHALLENGE_LIFETIME: Final = timedelta(minutes=5)
CHALLENGE_ATTEMPTS: Final = 20
"""Codes after which the password is needed again."""

BY_PASSWORD: Final = ("pwd",)
MAIL: Final = "mail"
BY_SIGNUP: Final = (*BY_PASSWORD, MAIL)


@dataclass(frozen=True, slots=True)
class Challenge:
    """The password was right, and a second factor of the user is needed: `answer_challenge` takes this token
    with one."""

    token: str = field(repr=False)
    user: AbstractUser = field(repr=False)


async def login(
    auth: Auth,
    name: str,
    password: str | Plaintext,
    code: str | Plaintext | None = None,
    device: Device | None = None,
    *,
    transport: Transport = Transport.BEARER,
    first: First = None,
) -> TokenSet:
    """Starts a session. `name` is an address in its normal form or, where users have one, a folded username;
    `code` is a time-based or a recovery code; a `device` is known from now on. `transport` is how the client
    gets the tokens: they are good for no other. `first` is what is asked before the password is looked at.

    Raises `AuthError`: INVALID_CREDENTIALS for an unknown or disabled account, a wrong password or code, all
    in the same time; EMAIL_NOT_VERIFIED (never with `prevent_enumeration`: a new link is mailed instead),
    PASSWORD_RESET_REQUIRED and TWO_FACTOR_REQUIRED only after the right password; what a hook
    refuses, only after the right code too; THROTTLED, PASSWORD_LOCKED,
    CODES_LOCKED, OVERLOADED and TWO_FACTOR_UNAVAILABLE.
    """
    answer = await _by_password(auth, name, Plaintext.of(password), _held(code), device, transport, first)
    if isinstance(answer, FactorNeeded):
        raise await factor_required(auth, answer)
    return answer.tokens


async def begin_login(
    auth: Auth,
    email: str,
    password: str | Plaintext,
    device: Device | None = None,
    *,
    transport: Transport = Transport.BEARER,
    first: First = None,
) -> TokenSet | Challenge:
    """The first of two steps, for pages: starts a session or, while two-factor is active, gives a challenge
    that lasts five minutes, for one success (ASVS 6.6.2). Raises like `login`."""
    answer = await _by_password(auth, email, Plaintext.of(password), None, device, transport, first)
    return await begin_challenge(auth, answer.proof) if isinstance(answer, FactorNeeded) else answer.tokens


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
    async with entering(auth, transport=transport, device=device, code=code) as entry:
        pending, proved, user = await _find_challenge(auth, challenge)
        entry.observation.user_id = user.id
        if not await attempt(auth, pending, CHALLENGE_ATTEMPTS):
            raise AuthError(ErrorCode.INVALID_TOKEN)
        async with counted_guess(auth, user, device=device) as entry.guess:
            unchanged = {"last_login_at": user.last_login_at, "access_epoch": user.access_epoch}
            proof = Proof(
                user=user,
                factors=tuple(proved["factors"]),
                unchanged=unchanged,
                spends=partial(take, pending=pending),
                carries=tuple(proved["carries"]) if proved["carries"] else None,
            )
            answer = await admit(auth, proof, entry)
    if isinstance(answer, FactorNeeded):  # only for a proof without a code
        raise AuthError(ErrorCode.INVALID_TOKEN)
    return answer.tokens


async def challenged(auth: Auth, challenge: str | Plaintext) -> AbstractUser:
    """The user who has to answer this challenge; raises `AuthError(INVALID_TOKEN)`. Changes nothing."""
    _, _, user = await _find_challenge(auth, Plaintext.of(challenge))
    return user


async def _find_challenge(auth: Auth, challenge: Plaintext) -> tuple[AbstractPending, Any, AbstractUser]:
    found = await find(auth, CHALLENGE, challenge)
    if found is None:
        raise AuthError(ErrorCode.INVALID_TOKEN)
    pending, proved = found
    user = await exact(auth.tables.user.all(), id=pending.user_id, is_active=True)
    if user is None or proved["state"] != _challenge_state(auth, user):
        raise AuthError(ErrorCode.INVALID_TOKEN)
    return pending, proved, user


async def open_session(
    auth: Auth,
    user: AbstractUser,
    *,
    factors: str | Iterable[str] = (),
    strong: bool = False,
    device: Device | None = None,
    transport: Transport = Transport.BEARER,
) -> TokenSet | Challenge:
    """Signs in a user whom the app has recognised in its own way, by the same rules as a login. `factors`
    name what the user has shown, for the claim `amr` (RFC 8176). Unless they are `strong`, a user with active
    two-factor has to answer a challenge, as after `begin_login`.

    Raises `AuthError`: INVALID_CREDENTIALS for a disabled account, or one that is not what `user` says any
    more; PASSWORD_RESET_REQUIRED, EMAIL_NOT_VERIFIED (never with `prevent_enumeration`), and what a hook
    refuses. Raises `ValueError` for what cannot name a factor.
    """
    async with entering(auth, transport=transport, device=device) as entry:
        entry.observation.user_id = user.id
        answer = await admit(auth, Proof(user=user, factors=factor_names(factors), strong=strong), entry)
    return await begin_challenge(auth, answer.proof) if isinstance(answer, FactorNeeded) else answer.tokens


async def enter_after_signup(
    auth: Auth, user: AbstractUser, device: Device | None = None, *, transport: Transport
) -> TokenSet | Challenge:
    """The first session, in the browser that has signed up and just verified the address: the password was
    chosen there, or what a feature has in its place, and the mail came. Only for an account that is
    `untouched` since.

    Raises `AuthError`: INVALID_CREDENTIALS where something of the account has ended meanwhile; else like
    `open_session`.
    """
    async with entering(auth, transport=transport, device=device) as entry:
        proof = Proof(
            user=user, factors=_by_signup(auth, user), unchanged={"access_epoch": user.access_epoch}
        )
        answer = await admit(auth, proof, entry)
    return await begin_challenge(auth, answer.proof) if isinstance(answer, FactorNeeded) else answer.tokens


def _by_signup(auth: Auth, user: AbstractUser) -> tuple[str, ...]:
    """What an account was signed up with, and the mail."""
    if is_usable(user.hashed_password):
        return BY_SIGNUP
    ways = (way.factor for way in auth.features.sign_ups.values())
    return (*(name for name in ways if name in user.second_factors), MAIL)


async def reauthenticate(
    auth: Auth,
    authentication: Authentication,
    password: str | Plaintext | None = None,
    code: str | Plaintext | None = None,
) -> None:
    """Makes the session's login recent again: with the password, where the account has one, and with a code,
    while two-factor is active.

    Raises `AuthError`: REAUTHENTICATION_FAILED when the password or code is wrong, VALIDATION_ERROR when the
    password is missing, TWO_FACTOR_REQUIRED when the code is, PASSWORD_NOT_SET where the account has neither,
    THROTTLED, OVERLOADED, TWO_FACTOR_UNAVAILABLE, IMPERSONATION_FORBIDDEN.
    """
    needed = await _show_again(auth, authentication, _held(password), _held(code))
    if needed is not None:
        raise await factor_required(auth, needed)


async def account_named(auth: Auth[U], name: str) -> U | None:
    """The account of an address in its normal form or, where users have one, of a folded username."""
    column = "email" if "@" in name or not auth.has_usernames else "username"
    return await exact(auth.tables.user.all(), **{column: name})


async def require_password(auth: Auth, user: U | None, password: Plaintext) -> U:
    """The user, whose password it is. Raises `AuthError(INVALID_CREDENTIALS)`, in the same time also where
    there is none. Belongs inside a `counted_guess`."""
    if user is None:
        await auth.hasher.verify(password, None)
    elif await check_password(auth, user, password):
        return user
    raise AuthError(ErrorCode.INVALID_CREDENTIALS)


async def _by_password(
    auth: Auth,
    name: str,
    password: Plaintext,
    code: Plaintext | None,
    device: Device | None,
    transport: Transport,
    first: First,
) -> SignedIn | FactorNeeded:
    async with entering(auth, transport=transport, device=device, code=code) as entry:
        user = await account_named(auth, name)
        async with counted_guess(auth, user, name, device=device, first=first) as entry.guess:
            if user is not None:
                entry.observation.user_id = user.id
            user = await require_password(auth, user, password)
            return await admit(auth, Proof(user=user, factors=BY_PASSWORD), entry)


async def _show_again(
    auth: Auth, authentication: Authentication, password: Plaintext | None, code: Plaintext | None
) -> FactorNeeded | None:
    """What is still needed, None where all factors were shown."""
    user = authentication.user
    has_password = is_usable(user.hashed_password)
    if has_password and password is None:
        raise AuthError(ErrorCode.VALIDATION_ERROR, field="password")
    async with observed(auth, EventKind.REAUTHENTICATION, authentication) as observation:
        refuse_impersonation(authentication)
        try:
            async with counted_guess(auth, user, session_id=authentication.session_id) as guess:
                if has_password and password is not None:
                    if not await check_password(auth, user, password):
                        raise AuthError(ErrorCode.INVALID_CREDENTIALS)
                    observation.factors = BY_PASSWORD
                proof = Proof(user=user, factors=observation.factors)
                second = await second_factor(auth, proof, code, guess)
                if isinstance(second, FactorNeeded):
                    observation.kind = None
                    return second
                if second is None and not has_password:
                    raise AuthError(ErrorCode.PASSWORD_NOT_SET)
                observation.factors = await renew(auth, authentication, proof, second)
        except AuthError as error:
            if error.code is ErrorCode.INVALID_CREDENTIALS:
                raise AuthError(ErrorCode.REAUTHENTICATION_FAILED) from error
            raise
        if second is not None:
            await second.report(auth, observation)
    return None


def _held(secret: str | Plaintext | None) -> Plaintext | None:
    return None if secret is None else Plaintext.of(secret)


@transactional
async def begin_challenge(auth: Auth, /, proof: Proof) -> Challenge:
    """Keeps what was proved for five minutes, until the second factor is shown. What the proof `spends` is
    spent here, so that it leads to one challenge. Raises `AuthError(INVALID_CREDENTIALS)` where it was spent
    before."""
    state = _challenge_state(auth, proof.user)
    proved = {"factors": proof.factors, "state": state, "carries": proof.carries}
    token = await begin(auth, CHALLENGE, proved, user_id=proof.user.id, lifetime=CHALLENGE_LIFETIME)
    if proof.spends is not None and not await proof.spends(auth):
        raise AuthError(ErrorCode.INVALID_CREDENTIALS)
    return Challenge(token, proof.user)


def _challenge_state(auth: Auth, user: AbstractUser) -> str:
    """A digest of what must not have changed between the steps: another password, another or no second
    factor, a login, or an end of all access ends all challenges."""
    parts = [CHALLENGE, user.password_id, str(user.access_epoch), str(user.last_login_at)]
    for factor in auth.features.factors:
        parts += (f"{name}={value}" for name, value in sorted(factor.state(user).items()))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
