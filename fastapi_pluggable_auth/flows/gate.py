"""The gate: every way of signing in proves something of a user, and gets its session here, or nowhere."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar
from uuid import UUID

from tortoise.expressions import F

from ..auth import Auth, transactional
from ..email.kinds import MailKind
from ..email.outbox import collect_mails
from ..errors import AuthError, ErrorCode
from ..events import EventKind, Observation
from ..features.feature import RightAnswer
from ..hooks import BeforeLogin, LoggedIn
from ..models import AbstractUser, exact
from ..security.devices import DEVICE
from ..security.jwt import Transport
from ..security.names import name_set
from ..security.plaintext import Plaintext
from .authentication import Authentication
from .devices import Device, TrustedDevice, known_device, may_trust, remember_device, trusted_device
from .guesses import Guess
from .notices import mail_on_request
from .passwords import is_rehashed
from .session_tokens import TokenSet
from .sessions import add_factors, start_session

T = TypeVar("T")

MOST_OF_THE_APP: Final = 160
"""Characters of names that the app gives; the rest of the column is for ours, which are shown later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What somebody has shown of a user: the names of the factors (RFC 8176: `pwd`, or our own). One that is
    `strong` needs no second factor beside it. `unchanged` are columns of the account that must still have
    these values when the session is stored; the gate itself looks after the password. `spends` is called
    inside the transaction that stores it, after the account is locked: it spends what the proof was made of,
    and is False where another request was faster. What it `carries` is written there by the `Completion` of
    the feature that is named, of data for JSON, which a challenge keeps until then."""

    user: AbstractUser
    factors: tuple[str, ...]
    strong: bool = False
    unchanged: Mapping[str, object] = field(default_factory=dict)
    spends: Callable[[Auth], Awaitable[bool]] | None = None
    carries: tuple[str, Mapping[str, Any]] | None = None


@dataclass(frozen=True, slots=True)
class SignedIn:
    """The session, and the factors that opened it."""

    user: AbstractUser
    tokens: TokenSet
    factors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FactorNeeded:
    """The proof was good, and the user has a second factor to show. Nothing was written."""

    proof: Proof


@dataclass(slots=True)
class Entry:
    """One request that wants a session: tokens for this `transport`, on a `device` that is known from now on.
    `code` answers for a second factor, and `guess` counts it."""

    observation: Observation
    transport: Transport = Transport.BEARER
    device: Device | None = None
    code: Plaintext | None = None
    guess: Guess | None = None
    signed_in: SignedIn | None = None


@asynccontextmanager
async def entering(
    auth: Auth,
    *,
    transport: Transport,
    device: Device | None = None,
    code: Plaintext | None = None,
) -> AsyncIterator[Entry]:
    """Wraps one try to sign in, with its event and its hook."""
    async with auth.events.observe(EventKind.LOGIN) as observation:
        entry = Entry(observation, transport, device, code)
        yield entry
    if (entered := entry.signed_in) is not None:
        await auth.hooks.fire(LoggedIn, entered.user, entered.tokens.session_id, entered.factors)


async def admit(auth: Auth, proof: Proof, entry: Entry) -> SignedIn | FactorNeeded:
    """Starts a session for a proof, where nothing else is in the way.

    Raises `AuthError`: INVALID_CREDENTIALS for a disabled account, a wrong code, and where something of the
    proof has changed meanwhile; PASSWORD_RESET_REQUIRED; EMAIL_NOT_VERIFIED (never with
    `prevent_enumeration`: a new link is mailed instead); what a hook refuses; and where no code is looked at:
    THROTTLED, CODES_LOCKED, TWO_FACTOR_UNAVAILABLE.
    """
    user, observation = proof.user, entry.observation
    if not user.is_active:
        raise AuthError(ErrorCode.INVALID_CREDENTIALS)
    observation.user_id, observation.factors = user.id, proof.factors
    if user.password_reset_required:
        raise AuthError(ErrorCode.PASSWORD_RESET_REQUIRED)
    if auth.settings.require_verified_email and not user.is_verified:
        raise await _unverified(auth, user)
    second = await second_factor(auth, proof, entry.code, entry.guess)
    if isinstance(second, FactorNeeded):
        trusted = await trusted_device(auth, user, entry.device) if entry.code is None else None
        if trusted is None:
            observation.kind = EventKind.LOGIN_BEGUN
            return second
        second = trusted
        if entry.guess is not None:
            entry.guess.proves = True
    await auth.hooks.fire(BeforeLogin, user)
    factors = with_second(proof, second)
    tokens = await _unless_rehashed(auth, user, lambda: _open(auth, proof, second, factors, entry))
    observation.session_id, observation.factors = tokens.session_id, factors
    if second is not None:
        await second.report(auth, observation)
    if proof.carries is not None:
        feature, carried = proof.carries
        await auth.features.completions[feature].report(auth, user, carried)
    entry.signed_in = SignedIn(user, tokens, factors)
    return entry.signed_in


async def factor_required(auth: Auth, needed: FactorNeeded) -> AuthError:
    """The refusal for a client that shows all factors in one request: TWO_FACTOR_REQUIRED, with what it needs
    to answer in another way than by a code."""
    options = {
        name: made
        for name, answer in auth.features.answers.items()
        if (made := await answer.options(auth, needed.proof.user)) is not None
    }
    return AuthError(ErrorCode.TWO_FACTOR_REQUIRED, options=options)


async def second_factor(
    auth: Auth, proof: Proof, code: Plaintext | None, guess: Guess | None
) -> RightAnswer | FactorNeeded | None:
    """The second factor that the code shows, None where none is asked for. Raises `AuthError`:
    INVALID_CREDENTIALS for a wrong code, and as `admit` for one that is not looked at."""
    if proof.strong:
        return None
    asked = [factor for factor in auth.features.factors if await factor.enrolled(auth, proof.user)]
    if not asked:
        return None
    if code is None or guess is None:
        if guess is not None:
            guess.proves = False
        return FactorNeeded(proof)
    answer = Plaintext(code.take())
    for factor in asked:
        right = await factor.check(auth, proof.user, answer.copy(), guess)
        if right is not None:
            return right
    raise AuthError(ErrorCode.INVALID_CREDENTIALS)


def factor_names(names: str | Iterable[str]) -> tuple[str, ...]:
    """The names of factors that the app has seen. Raises `ValueError` for what is not a name, or for more
    than fit."""
    given = tuple(names.split() if isinstance(names, str) else names)
    name_set(given)
    if len(" ".join(given)) > MOST_OF_THE_APP:
        raise ValueError("The names of the factors are too long.")
    return given


async def renew(
    auth: Auth, authentication: Authentication, proof: Proof, second: RightAnswer | None
) -> tuple[str, ...]:
    """Makes the session's login recent again and returns what was shown, which the session keeps. Raises
    `AuthError(REAUTHENTICATION_FAILED)` where something of the proof has changed meanwhile."""
    factors = with_second(proof, second)
    try:
        await _unless_rehashed(auth, proof.user, lambda: _renew(auth, authentication, proof, second, factors))
    except AuthError as error:
        if error.code is ErrorCode.INVALID_CREDENTIALS:
            raise AuthError(ErrorCode.REAUTHENTICATION_FAILED) from error
        raise
    return factors


def with_second(proof: Proof, second: RightAnswer | None) -> tuple[str, ...]:
    """All factors that were shown."""
    return proof.factors if second is None else (*proof.factors, second.factor)


async def _unverified(auth: Auth, user: AbstractUser) -> AuthError:
    """The refusal. With `prevent_enumeration` it is that of a wrong password, as anyone who has just
    signed up with an address would learn that it was new; its owner gets another link, after the answer."""
    if not auth.settings.prevent_enumeration:
        return AuthError(ErrorCode.EMAIL_NOT_VERIFIED)
    await auth.autonomous.after_answer(lambda: mail_new_link(auth, user))
    return AuthError(ErrorCode.INVALID_CREDENTIALS)


async def mail_new_link(auth: Auth, user: AbstractUser) -> None:
    """Another link to verify the address, within the limits, for who has shown that the account is theirs."""
    with collect_mails() as mails:
        await mail_on_request(auth, MailKind.VERIFY, user.email)
    await auth.dispatcher.after_response(mails)


async def _unless_rehashed(auth: Auth, user: AbstractUser, write: Callable[[], Awaitable[T]]) -> T:
    """Once more where it was refused for a hash that another sign-in has replaced by one of the same
    password."""
    try:
        return await write()
    except AuthError:
        if not await is_rehashed(auth, user):
            raise
        return await write()


@transactional
async def _open(
    auth: Auth, /, proof: Proof, second: RightAnswer | None, factors: tuple[str, ...], entry: Entry
) -> TokenSet:
    await _write_login(auth, proof, second, sessions_opened=F("sessions_opened") + 1)
    user = proof.user
    tokens = await start_session(auth, user, factors=factors, transport=entry.transport)
    if entry.device is None:
        return tokens
    known = await _known_on(auth, user, entry)
    shown = second is not None and not isinstance(second, TrustedDevice)
    trust = entry.device.trust and shown and may_trust(auth, user)
    value = await remember_device(
        auth, user.id, entry.device, known=known, session_id=tokens.session_id, trust=trust
    )
    return replace(tokens, device=value)


async def _known_on(auth: Auth, user: AbstractUser, entry: Entry) -> UUID | None:
    if entry.guess is not None:
        return entry.guess.device_id
    return await known_device(auth, user, entry.device)


@transactional
async def _renew(
    auth: Auth,
    /,
    authentication: Authentication,
    proof: Proof,
    second: RightAnswer | None,
    factors: tuple[str, ...],
) -> None:
    await _write_login(auth, proof, second)
    if authentication.session_id is not None:
        # All that is asked for now was shown, in person: no device has spared any of it.
        now, spared = auth.clock(), (DEVICE,)
        await add_factors(auth, authentication.session_id, factors, without=spared, authenticated_at=now)


async def _write_login(auth: Auth, proof: Proof, second: RightAnswer | None, **written: Any) -> None:
    """Writes the login only where the account still is what was looked at. Raises
    `AuthError(INVALID_CREDENTIALS)`.

    The row is locked from here on, so that a password change, a reset or the same code in another request
    comes before (and this login fails) or after (and ends this session).
    """
    user = proof.user
    unchanged: dict[str, object] = {
        "hashed_password": user.hashed_password,
        "is_active": True,
        "password_reset_required": False,
        **proof.unchanged,
    }
    for factor in auth.features.factors:
        unchanged.update(factor.state(user))
    changes = dict(written)
    if second is not None:
        unchanged.update(second.unchanged)
        changes.update(second.changes)
    if user.is_verified or not auth.settings.require_verified_email:
        # Else the app gave the token: no login by which the owner of the mailbox would be known.
        changes["last_login_at"] = auth.clock()
    account = auth.tables.user.filter(id=user.id, **unchanged)
    same = await account.update(**changes) if changes else await exact(account, id=user.id)
    if not same:
        raise AuthError(ErrorCode.INVALID_CREDENTIALS)
    if proof.spends is not None and not await proof.spends(auth):
        raise AuthError(ErrorCode.INVALID_CREDENTIALS)
    if second is not None and not await second.spend(auth, user):
        raise AuthError(ErrorCode.INVALID_CREDENTIALS)
    if proof.carries is not None:
        feature, carried = proof.carries
        if not await auth.features.completions[feature].write(auth, user, carried):
            raise AuthError(ErrorCode.INVALID_CREDENTIALS)
