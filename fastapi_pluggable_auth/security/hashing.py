"""Password hashing (ASVS 11.4.2) through passlib, off the event loop in a bounded pool of its own."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import secrets
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from ..config import AuthSettings
from ..config import settings as default_settings
from ..errors import AuthError, ErrorCode
from .fair_pool import FairPool, PoolFullError
from .plaintext import Plaintext

if TYPE_CHECKING:
    from passlib.context import CryptContext

logger = logging.getLogger(__name__)

# passlib 1.7.4 looks for a version attribute that bcrypt 4 no longer has, and logs a harmless traceback.
logging.getLogger("passlib.handlers.bcrypt").setLevel(logging.ERROR)

BCRYPT_BYTES: Final = 72
"""Plain bcrypt ignores what follows them, and 0.1 let it."""
RETRY_AFTER: Final = 2
"""Seconds that a client is asked to wait when the pool is full."""
NICENESS: Final = 10

T = TypeVar("T")

OWN_SCHEMES: Final = {"bcrypt": ("bcrypt", "bcrypt_sha256"), "argon2": ("argon2",)}
"""Those of new hashes, by `password_scheme`."""

SCHEMES: Final = (
    *("bcrypt", "bcrypt_sha256", "argon2"),
    *("pbkdf2_sha256", "pbkdf2_sha512", "pbkdf2_sha1"),
    *("django_pbkdf2_sha256", "django_pbkdf2_sha1", "django_bcrypt_sha256"),
)
"""Those that log in; with any other than the present one a login replaces the hash."""

MAXIMUM_HASH_LENGTH: Final = 255
MINIMUM_CHECKSUM: Final = 16
"""Bytes or characters: argon2 tags may be shorter, and are guessed then."""
MAXIMUM_BCRYPT_ROUNDS: Final = 16
"""About 4 s."""
MEASURED_ROUNDS: Final = 8
"""By which bcrypt's speed is found out where another scheme is the configured one."""
MAXIMUM_PBKDF2_ROUNDS: Final = {"pbkdf2_sha512": 4_000_000}
OTHER_PBKDF2_ROUNDS: Final = 10_000_000
"""About 4 s; Django's own are a million."""
MAXIMUM_ARGON2: Final = {"memory_cost": 2**18, "parallelism": 16, "rounds": 512}
"""KiB, lanes and passes: each lane is a thread, begun four times a pass, which takes 2 s for these."""
MAXIMUM_ARGON2_WORK: Final = 2**22
"""KiB times passes: about 4 s."""

_WRAPPED: Final = {"bcrypt$$2": "bcrypt$", "argon2$argon2": "argon2"}
"""What Django writes in front of hashes that are everybody's."""
_BCRYPT: Final = re.compile(
    r"(bcrypt_sha256\$)?\$2[aby]\$\d\d\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{30}[.CGKOSWaeimquy26]"
)
"""With no bit set that salt and digest have not."""

_UNUSABLE: Final = "!"
"""What no hash starts with, Django's mark too."""


class Verification(NamedTuple):
    """Whether a password was right, and the hash to store instead when the stored one is outdated."""

    ok: bool
    replacement: str | None = None


@cache
def _context(scheme: str, rounds: int) -> CryptContext:
    from passlib.context import CryptContext  # here, as it takes 8 ms, and an app starts without a password

    own = OWN_SCHEMES[scheme]
    return CryptContext(
        schemes=[*SCHEMES],
        default=scheme,
        deprecated=[each for each in SCHEMES if each not in own],
        bcrypt__rounds=rounds,
        bcrypt_sha256__rounds=rounds,
    )


def _context_for(settings: AuthSettings) -> CryptContext:
    return _context(settings.password_scheme, settings.bcrypt_rounds)


@cache
def _dummy_hash(scheme: str, rounds: int) -> str:
    hashed: str = _context(scheme, rounds).hash(secrets.token_urlsafe(16))
    return hashed


def _beyond_bcrypt(password: str) -> bool:
    """Whether plain bcrypt is not for this password. One of just 72 bytes neither: its hash would fit every
    longer one that begins so."""
    return len(password.encode()) >= BCRYPT_BYTES or "\0" in password


def _was_cut(password: str, hashed: str, settings: AuthSettings) -> bool:
    """Whether this hash is good for longer passwords as well."""
    return _beyond_bcrypt(password) and _context_for(settings).identify(hashed) == "bcrypt"


def hash_password(password: str, settings: AuthSettings = default_settings) -> str:
    """The hash to store. Blocks for as long as the configured cost takes; flows use `PasswordHasher`."""
    scheme: str = settings.password_scheme
    if scheme == "bcrypt" and _beyond_bcrypt(password):
        scheme = "bcrypt_sha256"
    hashed: str = _context_for(settings).handler(scheme).hash(password)
    return hashed


def unusable_hash() -> str:
    """What is stored for an account without a password: no password fits it, and no two are alike, so that a
    reset link dies with its use."""
    return f"{_UNUSABLE}{secrets.token_urlsafe(32)}"


def is_usable(hashed: str) -> bool:
    """Whether a password can fit what is stored."""
    return not hashed.startswith(_UNUSABLE)


def imported_hash(hashed: str) -> str:
    """What is stored for a hash that another system has made: bcrypt, argon2, PBKDF2 in passlib's form, and
    those of Django, whose unusable ones stay so. Raises `ValueError` for any other, a damaged one, and one
    that would take too long to check."""
    if not is_usable(hashed):
        return unusable_hash()
    for start, wrapper in _WRAPPED.items():
        if hashed.startswith(start):
            hashed = hashed.removeprefix(wrapper)
    context = _context("bcrypt", 12)
    scheme = context.identify(hashed)
    if scheme is None:
        raise ValueError("not a hash of a known format")
    if scheme in ("bcrypt", "django_bcrypt_sha256") and not _BCRYPT.fullmatch(hashed):
        raise ValueError("a damaged hash")
    handler = context.handler(scheme)
    if scheme == "argon2" and not handler.has_backend():
        raise ValueError("an argon2 hash needs the `argon2` extra")
    try:
        parsed = handler.from_string(hashed)
    except (ValueError, TypeError) as error:
        raise ValueError("a damaged hash") from error
    checksum = parsed.checksum or ""
    if len(hashed) > MAXIMUM_HASH_LENGTH or len(checksum) < MINIMUM_CHECKSUM:
        raise ValueError("a damaged hash")
    if not _is_affordable(scheme, parsed):
        raise ValueError("a hash that takes too long to check")
    return hashed


def _is_affordable(scheme: str, parsed: Any, bcrypt_rounds: int = 0) -> bool:
    """Whether a check takes no more than some 4 s and 256 MiB, or than the app's own rounds of bcrypt."""
    if "bcrypt" in scheme:
        return bool(parsed.rounds <= max(MAXIMUM_BCRYPT_ROUNDS, bcrypt_rounds))
    if scheme != "argon2":
        return bool(parsed.rounds <= MAXIMUM_PBKDF2_ROUNDS.get(scheme, OTHER_PBKDF2_ROUNDS))
    within = all(getattr(parsed, cost) <= bound for cost, bound in MAXIMUM_ARGON2.items())
    return within and bool(parsed.memory_cost * parsed.rounds <= MAXIMUM_ARGON2_WORK)


def verify_password(password: str, hashed: str, settings: AuthSettings = default_settings) -> bool:
    """Whether the password belongs to the hash. Blocks as long as a hash of the configured cost does, also
    for one that cost less, and for what is no hash, which is never right."""
    matches, saved = _compare(password, hashed, settings)
    _spend(saved, settings)
    return matches


def _compare(password: str, hashed: str, settings: AuthSettings) -> tuple[bool, float]:
    """Whether the password belongs to the hash, and which share of the configured cost that has saved."""
    context = _context_for(settings)
    try:
        scheme = context.identify(hashed)
        if scheme is not None and not (scheme == "bcrypt" and "\0" in password):
            if _is_affordable(scheme, context.handler(scheme).from_string(hashed), settings.bcrypt_rounds):
                clock = _clock_of(scheme)
                started = clock()
                # 0.1 and other systems left the cut to bcrypt, which in some versions refuses.
                shown = password.encode()[:BCRYPT_BYTES] if scheme == "bcrypt" else password
                matches: bool = context.verify(shown, hashed)
                return matches, _saved(scheme, hashed, clock() - started, settings)
            logger.warning("A stored password hash would take too long to check: its owner needs a reset")
    except (ValueError, TypeError):  # a hash that is damaged
        pass
    return False, 1.0


def _saved(scheme: str, hashed: str, seconds: float, settings: AuthSettings) -> float:
    """Which share of the configured cost a check of this hash, which took so long, has not spent. One that
    costs more saves nothing."""
    context, present = _context_for(settings), settings.password_scheme
    if scheme in OWN_SCHEMES[present] and not context.needs_update(hashed):
        return 0.0
    if present == "bcrypt" and "bcrypt" in scheme:
        rounds: int = context.handler(scheme).from_string(hashed).rounds
        return max(0.0, 1 - 2.0 ** (rounds - settings.bcrypt_rounds))
    return max(0.0, 1 - seconds / _seconds_of(present, settings.bcrypt_rounds))


def _spend(share: float, settings: AuthSettings) -> None:
    """Works for this share of the configured cost."""
    scheme, rounds = settings.password_scheme, settings.bcrypt_rounds
    if share == 1.0:
        _context_for(settings).verify("", _dummy_hash(scheme, rounds))
        return
    # Twos to powers, of which bcrypt does as many: the work that four of cost 10 do is one of cost 12.
    steps = share * 2**rounds
    if scheme != "bcrypt":
        steps = (
            share * _seconds_of(scheme, rounds) / _seconds_of("bcrypt", MEASURED_ROUNDS) * 2**MEASURED_ROUNDS
        )
    for cost in range(MAXIMUM_BCRYPT_ROUNDS, 3, -1):
        while steps >= 2**cost:
            _context("bcrypt", cost).hash("")
            steps -= 2**cost


@cache
def _seconds_of(scheme: str, rounds: int) -> float:
    """How long a check takes here, without what else the machine does."""
    clock, context, hashed, times = (
        _clock_of(scheme),
        _context(scheme, rounds),
        _dummy_hash(scheme, rounds),
        [],
    )
    for _ in range(2):
        started = clock()
        context.verify("", hashed)
        times.append(clock() - started)
    return min(times)


def _clock_of(scheme: str) -> Callable[[], float]:
    """The time of this thread, unless others work for it."""
    return time.perf_counter if scheme == "argon2" else time.thread_time


def _give_way() -> None:
    """Lets the event loop have a core as soon as it wants one: Linux knows a niceness per thread.
    Without it a storm of logins makes the slowest requests beside it wait twice as long."""
    if sys.platform == "linux":
        os.nice(NICENESS)


class PasswordHasher:
    """Hashes and verifies on threads of its own: bcrypt releases the GIL, the event loop stays free.

    At most `hashing_queue_size` calls wait, those of each `network` in turn; one more raises
    `AuthError(OVERLOADED)` at once, and so does the newest of a network that takes more than its share of a
    full queue. A call waits inside the context that `waiting` makes.
    """

    def __init__(
        self,
        settings: AuthSettings,
        waiting: Callable[[], AbstractContextManager[None]] = nullcontext,
        network: Callable[[], str] = str,
    ) -> None:
        self._settings = settings
        self._waiting = waiting
        self._network = network
        self._pool = FairPool(settings.hashing_threads or os.cpu_count() or 1, "password-hashing", _give_way)

    async def hash(self, password: str | Plaintext) -> str:
        """The hash to store; raises `AuthError(OVERLOADED)`. Takes the password."""
        password = Plaintext.of(password)
        return await self._run(lambda: hash_password(password.take(), self._settings))

    async def verify(self, password: str | Plaintext, hashed: str | None) -> Verification:
        """Checks a password, in the same time when there is no hash; raises `AuthError(OVERLOADED)`. Takes
        the password."""
        password = Plaintext.of(password)
        return await self._run(lambda: self._verify(password.take(), hashed))

    def close(self) -> None:
        """Ends the threads once their work is done; a later call starts new ones."""
        self._pool.close()

    def _verify(self, password: str, hashed: str | None) -> Verification:
        settings = self._settings
        matches, saved = (False, 1.0) if hashed is None else _compare(password, hashed, settings)
        if matches and hashed is not None:
            outdated = _context_for(settings).needs_update(hashed)
            if outdated or _was_cut(password, hashed, settings):
                return Verification(True, hash_password(password, settings))  # costs more than was saved
        _spend(saved, settings)
        return Verification(matches)

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            result = self._pool.submit(self._network(), work, self._settings.hashing_queue_size)
            with self._waiting():
                return await asyncio.wrap_future(result)
        except PoolFullError as error:
            raise AuthError(ErrorCode.OVERLOADED, retry_after=RETRY_AFTER) from error
