"""Guesses at a password or a code, counted per account in three places (ASVS 6.1.1, 6.3.1, 6.3.5):

- in a session: per session, which ends after twenty wrong ones;
- on a device that the account knows: per device, with a back-off; after twenty wrong ones in a row it is
  unknown;
- everywhere else: a back-off per network, and an end for all networks together.

So nobody without a session or a known device delays one who has it. Codes after the right password are
counted once more, for the account.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, TypeAlias
from uuid import UUID

from ..auth import Auth
from ..email.kinds import MailKind
from ..errors import PASSWORD_REFUSALS, AuthError, ErrorCode, Refused
from ..events import origin
from ..models import AbstractUser, exact
from ..security.devices import DEVICE_LIFETIME
from ..security.proxies import guessing_network
from ..security.throttle import Backoff, Guesses, Stop, counts_a_period, is_waiting
from .counters import Counted, detailed
from .devices import Device, forget_device, known_device
from .notices import notify_anyway
from .sessions import end_session
from .throttle import Key, StoppedError, change, count, forget

IN_A_SESSION: Final = 20
ON_A_DEVICE: Final = 20
OF_CODES: Final = 100
"""Wrong codes after which no time-based code is looked at, until somebody lifts that (NIST SP 800-63B
3.2.2)."""

CODES_TOLD: Final = 5
"""How many wrong codes after the right password the owner gets a mail about."""

PERIOD: Final = timedelta(hours=24)


_PASSWORDS: Final = "passwords"
_CODES: Final = "codes"
_SESSION: Final = "session"
_DEVICE: Final = "device"
_FOR_GOOD: Final = timedelta(days=36500)

NO_GUESSES: Final = frozenset(
    {
        ErrorCode.EMAIL_NOT_VERIFIED,
        *PASSWORD_REFUSALS,
        ErrorCode.PASSWORD_RESET_REQUIRED,
        ErrorCode.PASSWORD_NOT_SET,
        ErrorCode.TWO_FACTOR_UNAVAILABLE,
        ErrorCode.CODES_LOCKED,
        ErrorCode.THROTTLED,
        ErrorCode.OVERLOADED,
    }
)
"""Refusals after the right password, or before any was looked at: nothing was guessed."""


First: TypeAlias = Callable[[int], Awaitable[None]] | None
"""What is asked before a password is looked at, of how many others were wrong. Raises `AuthError`."""


@dataclass(slots=True)
class Guess:
    """One attempt at an account. `device_id` is that of the device that the account knows, if it is made on
    one; `proves` is whether being right proves who the user is."""

    auth: Auth
    user: AbstractUser | None
    session_id: UUID | None
    device_id: UUID | None
    network: str
    key: Key
    policy: Guesses
    proves: bool = True
    counted: Counted | None = None
    codes: Counted | None = None
    unguessable: bool = False
    password_was_right: bool = False

    @property
    def earlier(self) -> int:
        """How many others were wrong, or are under way, within the time that they count."""
        return 0 if self.counted is None else self.counted.counter.count - 1

    async def count(self) -> None:
        """Counts it, before anything is looked at. Raises `AuthError`: THROTTLED, PASSWORD_LOCKED."""
        try:
            self.counted = await count(self.auth, self.key, self.policy)
        except StoppedError as stopped:
            if await self._end():
                raise AuthError(ErrorCode.THROTTLED, retry_after=1) from stopped
            raise AuthError(ErrorCode.PASSWORD_LOCKED, retry_after=stopped.retry_after) from stopped

    async def count_code(self, *, unguessable: bool = False) -> None:
        """Counts a code after the right password, before it is looked at. Raises `AuthError`: THROTTLED,
        CODES_LOCKED. One that is `unguessable` passes where others do not."""
        if self.session_id is not None or self.user is None:
            return
        self.password_was_right, self.unguessable = True, unguessable
        key, policy = Key.of(_CODES, self.user.id), self._code_policy()
        try:
            self.codes = await count(self.auth, key, policy)
        except StoppedError as stopped:
            if not self.unguessable:
                raise AuthError(ErrorCode.CODES_LOCKED) from stopped

    async def right(self) -> None:
        """It was right. What `proves` who the user is starts the count anew; else it just was no guess."""
        policy = self.policy
        await change(self.auth, self.key, self.counted, policy.right if self.proves else policy.take_back)
        if self.user is not None and (self.codes is not None or self.unguessable):
            await forget(self.auth, Key.of(_CODES, self.user.id))

    async def take_back(self) -> None:
        """It was no guess."""
        await change(self.auth, self.key, self.counted, self.policy.take_back)
        if self.codes is not None and self.user is not None:
            key, policy = Key.of(_CODES, self.user.id), self._code_policy()
            await change(self.auth, key, self.codes, policy.take_back)

    async def wrong(self) -> None:
        """It was wrong: what that ends, ends now."""
        if self.counted is not None and self.counted.counter.count >= self.policy.limit:
            await self._end()
        elif self.password_was_right:
            await change(self.auth, self.key, self.counted, self.policy.right_but)
        if self.codes is not None and self.codes.counter.count == CODES_TOLD and self.user is not None:
            await notify_anyway(self.auth, MailKind.WRONG_CODES, self.user, count=CODES_TOLD)

    async def _end(self) -> bool:
        """Ends the session, or forgets the device, in which too much was guessed; whether there was one. The
        counter stays, for guesses that are under way in it."""
        if self.session_id is not None and self.user is not None:
            with suppress(AuthError):  # it has ended already
                await end_session(self.auth, self.user.id, self.session_id, refusing=True)
        elif self.device_id is not None:
            await forget_device(self.auth, self.device_id)
        else:
            return False
        return True

    def _code_policy(self) -> Guesses:
        network = self.network if self.device_id is None else None
        return Guesses(OF_CODES, backoff=_backoff(self.auth), network=network, keep=_FOR_GOOD)


@asynccontextmanager
async def counted_guess(
    auth: Auth,
    user: AbstractUser | None,
    name: str = "",
    *,
    session_id: UUID | None = None,
    device: Device | None = None,
    proves: bool = True,
    first: First = None,
) -> AsyncIterator[Guess]:
    """An attempt to sign in to an account or, where there is none, by this `name`: in a session, on
    a `device`, or anywhere. What comes `first` may refuse it, and then nothing was guessed.

    The attempt is counted before it is made, so that of many at once no more are made than allowed. Success
    starts the count anew, unless it proves nothing of the user. Raises `AuthError`: THROTTLED with the
    seconds to wait, PASSWORD_LOCKED.
    """
    guess = await _place(auth, user, name, session_id, device)
    guess.proves = proves
    await guess.count()
    if first is not None:
        try:
            await first(guess.earlier)
        except AuthError:
            await guess.take_back()
            raise
    try:
        yield guess
    except AuthError as error:
        if error.code in NO_GUESSES or isinstance(error, Refused):
            await guess.take_back()
        else:
            await guess.wrong()
        raise
    await guess.right()


@asynccontextmanager
async def counted_code(
    auth: Auth, user: AbstractUser, *, device: Device | None = None
) -> AsyncIterator[Guess]:
    """A second factor after a mail. Only codes are counted, with those after a password: what others guess of
    the password is not in the way of the owner of the mailbox. Raises like `Guess.count_code`."""
    guess = await _place(auth, user, "", None, device)
    try:
        yield guess
    except AuthError as error:
        if error.code in NO_GUESSES or isinstance(error, Refused):
            await guess.take_back()
        else:
            await guess.wrong()
        raise
    await guess.right()


async def count_wrong_code(auth: Auth, email: str) -> None:
    """Counts a wrong code of a mail to this address with the wrong passwords of its account, or of the name:
    the next password has to wait as long as if it had been one. Never the other way round: where passwords
    have to wait, a mail is what helps."""
    guess = await _place(auth, await exact(auth.tables.user.all(), email=email), email, None, None)
    with suppress(AuthError):  # so many were wrong that no more are counted
        await guess.count()


async def forget_passwords(auth: Auth, user_id: UUID) -> None:
    """Starts the count of wrong passwords anew, from wherever they came. Never that of codes."""
    await forget(auth, Key.of(_PASSWORDS, user_id))


async def forget_codes(auth: Auth, user_id: UUID) -> None:
    """Starts the count of wrong codes anew."""
    await forget(auth, Key.of(_CODES, user_id))


async def forget_guesses(auth: Auth, user_id: UUID) -> None:
    """Starts every count of an account anew, also those on its devices."""
    devices = await auth.tables.device.filter(user_id=user_id).values_list("id", flat=True)
    own = [Key.of(_PASSWORDS, user_id), Key.of(_CODES, user_id)]
    await forget(auth, *own, *(Key.of(_DEVICE, device) for device in devices))  # type: ignore[arg-type]  # flat lists are typed as tuples


@dataclass(frozen=True, slots=True)
class Slowed:
    """Of accounts and their known devices: at how many the next try has to wait, and how many are locked
    until time, a mail or an administrator opens them."""

    waiting: int
    locked: int


async def count_slowed(auth: Auth) -> Slowed:
    """How many accounts and known devices are slowed down now. Reads all their counters."""
    now, waiting, locked = auth.clock(), 0, 0
    passwords, codes = Guesses(auth.settings.throttle_daily_limit, PERIOD), Guesses(OF_CODES)
    async for counter in detailed(auth):
        policy = passwords if counts_a_period(counter) else codes
        if isinstance(policy.attempt(counter, now), Stop):
            locked += 1
        elif is_waiting(counter, now):
            waiting += 1
    return Slowed(waiting, locked)


async def _place(
    auth: Auth, user: AbstractUser | None, name: str, session_id: UUID | None, device: Device | None
) -> Guess:
    network = _network()
    if session_id is not None and user is not None:
        policy = Guesses(IN_A_SESSION, keep=auth.settings.session_max_age)
        return Guess(auth, user, session_id, None, network, Key.of(_SESSION, session_id), policy)
    device_id = await known_device(auth, user, device)
    if device_id is not None:
        key = Key.of(_DEVICE, device_id)
        policy = Guesses(ON_A_DEVICE, backoff=_backoff(auth), network=_DEVICE, keep=DEVICE_LIFETIME)
    else:
        owner = None if user is None or (name and _is_kept_quiet(auth, user)) else user.id
        key = Key.named(auth, _PASSWORDS, name) if owner is None else Key.of(_PASSWORDS, owner)
        policy = Guesses(auth.settings.throttle_daily_limit, PERIOD, _backoff(auth), network)
    return Guess(auth, user, None, device_id, network, key, policy)


def _is_kept_quiet(auth: Auth, user: AbstractUser) -> bool:
    """Whether a login must look as if there were no account. One that an outsider has just made would else
    start with a fresh count, where that of the name had stopped."""
    settings = auth.settings
    return settings.prevent_enumeration and settings.require_verified_email and not user.is_verified


def _network() -> str:
    """A short name of the network that the request comes from."""
    network = guessing_network(origin.get()().address)
    return hashlib.sha256(network.encode()).hexdigest()[:12]


def _backoff(auth: Auth) -> Backoff:
    settings = auth.settings
    return Backoff(
        free=settings.throttle_free_attempts,
        first_pause=settings.throttle_first_pause,
        longest_pause=settings.throttle_longest_pause,
        forget_after=settings.throttle_forget_after,
    )
