"""Password hashing (ASVS 11.4.2) through passlib, off the event loop in its own bounded pool."""

from __future__ import annotations

import base64
import hmac
import logging
import os
import re
import secrets
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any, Final, NamedTuple, TypeVar

from passlib.context import CryptContext

from .. import config
from ..config import AuthSettings
from .foreign_hashes import foreign_hash
from .passwords import spellings
from .plaintext import Plaintext
from .workers import Workers

logger = logging.getLogger(__name__)

# passlib 1.7.4 looks for a version attribute that bcrypt 4 no longer has, and logs a harmless traceback.
logging.getLogger("passlib.handlers.bcrypt").setLevel(logging.ERROR)

BCRYPT_BYTES: Final = 72
"""Plain bcrypt ignores what follows them, and 0.1 let it."""
NICENESS: Final = 10

T = TypeVar("T")

OWN_SCHEMES: Final = {"bcrypt": ("bcrypt", "bcrypt_sha256"), "argon2": ("argon2",)}
"""Those of new hashes, by `password_scheme`."""

SCHEMES: Final = (
    *("bcrypt", "bcrypt_sha256", "argon2"),
    *("pbkdf2_sha256", "pbkdf2_sha512", "pbkdf2_sha1"),
    *("django_bcrypt_sha256", "phpass"),
)
"""Those of passlib that log in; with any other than the present one a login replaces the hash."""

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
MAXIMUM_PHPASS_ROUNDS: Final = 19
"""Twos to this power, in Python: 0.2 s; WordPress has 13."""
MAXIMUM_ARGON2: Final = {"memory_cost": 2**18, "parallelism": 16, "rounds": 512}
"""KiB, lanes and passes: each lane is a thread, begun four times a pass, which takes 2 s for these."""
MAXIMUM_ARGON2_WORK: Final = 2**22
"""KiB times passes: about 4 s."""

_WRAPPED: Final = {"bcrypt$$2": "bcrypt$", "argon2$argon2": "argon2"}
"""What Django writes in front of hashes that are everybody's."""
_WORDPRESS: Final = "$wp"
"""What WordPress 6.8 and later write in front of bcrypt of a keyed digest."""
_PHP_BLANKS: Final = b" \t\n\r\0\x0b"
_BCRYPT: Final = re.compile(
    r"(bcrypt_sha256\$)?\$2[aby]\$\d\d\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{30}[.CGKOSWaeimquy26]"
)
"""With no bit set that salt and digest have not."""

_PHPASS: Final = re.compile(r"\$[PH]\$[./A-Za-z0-9]{31}")

_UNUSABLE: Final = "!"
"""What no hash starts with, Django's mark too."""


class PasswordCheck(NamedTuple):
    """Whether a password was right, and the hash to store instead when the stored one is outdated."""

    ok: bool
    replacement: str | None = None


@cache
def _context(scheme: str, rounds: int) -> CryptContext:
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
    """Whether plain bcrypt is not to be used for the password: it takes 72 bytes at most, and no NUL. One of
    just 72 counts too, so that a hash of ours never fits a longer one."""
    return len(password.encode()) >= BCRYPT_BYTES or "\0" in password


def hash_password(password: str, settings: AuthSettings | None = None) -> str:
    """The hash to store, of the password in NFC (RFC 8265 section 4.2). Blocks for as long as the configured
    cost takes; flows use `PasswordHasher`."""
    settings = config.settings if settings is None else settings
    scheme: str = settings.password_scheme
    password = spellings(password)[0]
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
    """What is stored for a hash that another system has made: bcrypt, argon2, scrypt and PBKDF2 in the forms
    of passlib, PHC, Django, Werkzeug and Firebase, and those of WordPress. Django's unusable ones stay so.
    Raises `ValueError` for any other, a damaged one, and one that would take too long to check."""
    if not is_usable(hashed):
        return unusable_hash()
    if len(hashed) > MAXIMUM_HASH_LENGTH:
        raise ValueError(f"a hash of more than {MAXIMUM_HASH_LENGTH} characters")
    for start, wrapper in _WRAPPED.items():
        if hashed.startswith(start):
            hashed = hashed.removeprefix(wrapper)
    if foreign_hash(hashed) is None:
        _require_sound(hashed.removeprefix(_WORDPRESS), wordpress=hashed.startswith(_WORDPRESS))
    return hashed


def _require_sound(hashed: str, *, wordpress: bool) -> None:
    """Raises `ValueError` for what passlib does not know, or only in part."""
    context = _context("bcrypt", 12)
    scheme = context.identify(hashed)
    if scheme is None or (wordpress and scheme != "bcrypt"):
        raise ValueError("not a hash of a known format: left empty, its owner sets a password by mail")
    if scheme in ("bcrypt", "django_bcrypt_sha256") and not _BCRYPT.fullmatch(hashed):
        raise ValueError("a damaged hash")
    if scheme == "phpass" and not _PHPASS.fullmatch(hashed):
        raise ValueError("a damaged hash")
    handler = context.handler(scheme)
    if scheme == "argon2" and not handler.has_backend():
        raise ValueError("an argon2 hash needs the `argon2` extra")
    try:
        parsed = handler.from_string(hashed)
    except (ValueError, TypeError) as error:
        raise ValueError("a damaged hash") from error
    except NotImplementedError as error:
        raise ValueError(str(error)) from error
    if getattr(parsed, "data", None):
        raise ValueError("argon2 'data' parameter not supported")
    if len(parsed.checksum or "") < MINIMUM_CHECKSUM:
        raise ValueError("a damaged hash")
    if not _is_affordable(scheme, parsed):
        raise ValueError("a hash that takes too long to check")


def _is_affordable(scheme: str, parsed: Any, bcrypt_rounds: int = 0) -> bool:
    """Whether a check takes at most some 4 s and 256 MiB, or than the app's own rounds of bcrypt."""
    if "bcrypt" in scheme:
        return bool(parsed.rounds <= max(MAXIMUM_BCRYPT_ROUNDS, bcrypt_rounds))
    if scheme == "phpass":
        return bool(parsed.rounds <= MAXIMUM_PHPASS_ROUNDS)
    if scheme != "argon2":
        return bool(parsed.rounds <= MAXIMUM_PBKDF2_ROUNDS.get(scheme, OTHER_PBKDF2_ROUNDS))
    within = all(getattr(parsed, cost) <= bound for cost, bound in MAXIMUM_ARGON2.items())
    return within and bool(parsed.memory_cost * parsed.rounds <= MAXIMUM_ARGON2_WORK)


def verify_password(password: str, hashed: str, settings: AuthSettings | None = None) -> bool:
    """Whether the password belongs to the hash, in NFC or as it is. Blocks as long as a hash of the
    configured cost does, also for one that cost less, and for what is not a hash, which is never right."""
    settings = config.settings if settings is None else settings
    for spelling in spellings(password):
        checked = _compare(spelling, hashed, settings)
        _spend(checked.saved, settings)
        if checked.matches:
            return True
    return False


class _Checked(NamedTuple):
    """Whether the password belongs to the hash, which share of the configured cost the check has saved, and
    whether another hash of the same password is to be stored."""

    matches: bool
    saved: float
    outdated: bool


_NOT_CHECKED: Final = _Checked(False, 1.0, False)


def _compare(password: str, hashed: str, settings: AuthSettings) -> _Checked:
    """Looks whether this spelling belongs to the hash."""
    try:
        return _compare_sound(password, hashed, settings)
    except (ValueError, TypeError, IndexError):  # a hash that is damaged
        return _NOT_CHECKED
    except RuntimeError as error:  # of passlib: argon2 without its library, or with parameters that it lacks
        logger.warning("A stored password hash cannot be checked: %s", error)
        return _NOT_CHECKED


def _compare_sound(password: str, hashed: str, settings: AuthSettings) -> _Checked:
    context = _context_for(settings)
    foreign = foreign_hash(hashed)
    if foreign is not None:
        started = time.thread_time()
        matches = foreign.fits(password)
        return _Checked(matches, _saved_by(time.thread_time() - started, settings), True)
    secret, wordpress = password.encode(), hashed.startswith(_WORDPRESS)
    if wordpress:
        hashed, secret = hashed.removeprefix(_WORDPRESS), _wordpress_secret(secret)
    scheme = context.identify(hashed)
    if scheme is None or (scheme == "bcrypt" and b"\0" in secret):
        return _NOT_CHECKED
    if not _is_affordable(scheme, context.handler(scheme).from_string(hashed), settings.bcrypt_rounds):
        logger.warning("A stored password hash would take too long to check: its owner needs a reset")
        return _NOT_CHECKED
    cut = scheme == "bcrypt" and _beyond_bcrypt(password)  # as other systems have cut it, ours never does
    clock = _clock_of(scheme)
    started = clock()
    matches = context.verify(secret[:BCRYPT_BYTES] if scheme == "bcrypt" else secret, hashed)
    saved = _saved(scheme, hashed, clock() - started, settings)
    own = scheme in OWN_SCHEMES[settings.password_scheme] and not (wordpress or cut)
    return _Checked(matches, saved, not own or context.needs_update(hashed))


def _wordpress_secret(secret: bytes) -> bytes:
    """What WordPress makes of a password before bcrypt."""
    return base64.b64encode(hmac.digest(b"wp-sha384", secret.strip(_PHP_BLANKS), "sha384"))


def _saved(scheme: str, hashed: str, seconds: float, settings: AuthSettings) -> float:
    """Which share of the configured cost a check of this hash, which took so long, has not spent. One that
    costs more saves nothing."""
    context, present = _context_for(settings), settings.password_scheme
    if scheme in OWN_SCHEMES[present] and not context.needs_update(hashed):
        return 0.0
    if present == "bcrypt" and "bcrypt" in scheme:
        rounds: int = context.handler(scheme).from_string(hashed).rounds
        return max(0.0, 1 - 2.0 ** (rounds - settings.bcrypt_rounds))
    return _saved_by(seconds, settings)


def _saved_by(seconds: float, settings: AuthSettings) -> float:
    """Which share of the configured cost is left after so much work."""
    return max(0.0, 1 - seconds / _seconds_of(settings.password_scheme, settings.bcrypt_rounds))


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
    """Hashes and verifies on its own threads: bcrypt releases the GIL, the event loop stays free.

    At most `hashing_queue_size` calls wait, those of each `network` in turn; one more raises
    `AuthError(OVERLOADED)` at once, and so does the newest of a network that takes more than its share of a
    full queue. A call waits inside the context that `waiting` makes. `ran` gets the seconds that one has
    waited and taken, `refused` is called for one that was not taken.
    """

    def __init__(
        self,
        settings: AuthSettings,
        waiting: Callable[[], AbstractContextManager[None]] = nullcontext,
        network: Callable[[], str] = str,
        *,
        ran: Callable[[float, float], None] = lambda waited, took: None,
        refused: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        threads = settings.hashing_threads or os.cpu_count() or 1
        self._workers = Workers(
            threads, "password-hashing", waiting, network, _give_way, ran=ran, refused=refused
        )

    @property
    def waiting(self) -> int:
        """How many calls wait for a thread."""
        return self._workers.waiting

    async def hash(self, password: str | Plaintext) -> str:
        """The hash to store; raises `AuthError(OVERLOADED)`. Takes the password."""
        password = Plaintext.of(password)
        return await self._run(lambda: hash_password(password.take(), self._settings))

    async def verify(self, password: str | Plaintext, hashed: str | None) -> PasswordCheck:
        """Checks a password, in the same time when there is no hash; raises `AuthError(OVERLOADED)`. Takes
        the password."""
        password = Plaintext.of(password)
        return await self._run(lambda: self._verify(password.take(), hashed))

    def close(self) -> None:
        """Ends the threads once their work is done; a later call starts new ones."""
        self._workers.close()

    def _verify(self, password: str, hashed: str | None) -> PasswordCheck:
        settings = self._settings
        for number, spelling in enumerate(spellings(password)):
            checked = _NOT_CHECKED if hashed is None else _compare(spelling, hashed, settings)
            if checked.matches and (checked.outdated or number):
                return PasswordCheck(
                    True, hash_password(password, settings)
                )  # which costs more than was saved
            _spend(checked.saved, settings)
            if checked.matches:
                return PasswordCheck(True)
        return PasswordCheck(False)

    async def _run(self, work: Callable[[], T]) -> T:
        return await self._workers.run(work, self._settings.hashing_queue_size)
