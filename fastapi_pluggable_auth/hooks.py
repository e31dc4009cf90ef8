"""Hooks: functions of the host app that a flow calls on its way, and the typed events that they get.

The base class of an event says when its handlers run and what happens where one raises.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, ParamSpec, TypeAlias
from uuid import UUID

from .arguments import name_of
from .config import AuthSettings
from .database import deadline_paused, spent_by
from .errors import AuthError, ErrorCode, Refused
from .events import Origin, SecurityEvent, origin
from .failures import Failure, failure_of
from .models.user import U

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Event:
    """What happens. `origin` is where the request comes from, with empty texts where there is none.

    To type checkers the user of `SignedUp` is the package's, that of `SignedUp[Member]` a `Member`."""

    origin: Origin = field(default_factory=lambda: origin.get()(), kw_only=True)


@dataclass(frozen=True, slots=True)
class BeforeEvent(Event):
    """Heard before anything is written, outside the transaction, by handlers that may raise `Refused`."""


@dataclass(frozen=True, slots=True)
class DuringEvent(Event):
    """Heard inside the transaction: what a handler writes there is stored with the flow, or not at all. What
    it raises rolls all back. After a deadlock, the transaction runs again, and the handler with it."""


@dataclass(frozen=True, slots=True)
class AfterEvent(Event):
    """Heard after the commit and before the response. What a handler raises is logged and changes nothing."""


@dataclass(frozen=True, slots=True)
class BeforeSignup(BeforeEvent):
    """Somebody signs up, with an address in its normal form and the columns of the host. `extra` are the
    fields of the body that are not stored. Nothing was looked up yet: a refusal tells nobody whether there is
    such an account."""

    email: str
    columns: Mapping[str, Any]
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BeforeLogin(BeforeEvent, Generic[U]):
    """A user signs in, whose password and second factor were right."""

    user: U


@dataclass(frozen=True, slots=True)
class BeforeEmailChange(BeforeEvent, Generic[U]):
    """A user asks for another address, in its normal form; a link is mailed there."""

    user: U
    new_email: str


@dataclass(frozen=True, slots=True)
class BeforePasswordChange(BeforeEvent, Generic[U]):
    """A user sets another password, after the old one or a mailed link was right, or the first one."""

    user: U
    by_reset: bool


@dataclass(frozen=True, slots=True)
class BeforeAccountDeletion(BeforeEvent, Generic[U]):
    """A user who signed in recently deletes the account."""

    user: U


@dataclass(frozen=True, slots=True)
class SigningUp(DuringEvent, Generic[U]):
    """An account is stored. `extra` is as in `BeforeSignup`, empty where no one signs up."""

    user: U
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ChangingEmail(DuringEvent, Generic[U]):
    """An account moves to the address that was confirmed; the user still has the old one."""

    user: U
    new_email: str


@dataclass(frozen=True, slots=True)
class DeletingAccount(DuringEvent, Generic[U]):
    """An account is deleted: its row, and those of the host that refer to it, are still there."""

    user: U


@dataclass(frozen=True, slots=True)
class SignedUp(AfterEvent, Generic[U]):
    """An account was made. `extra` is as in `SigningUp`."""

    user: U
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LoggedIn(AfterEvent, Generic[U]):
    """A session was started. `factors` are those that were right: `pwd`, `otp`, `recovery`."""

    user: U
    session_id: UUID
    factors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LoggedOut(AfterEvent):
    """A user has ended all sessions."""

    user_id: UUID


@dataclass(frozen=True, slots=True)
class OtherSessionsEnded(AfterEvent):
    """A user has ended all sessions but this one (None: all, by a token that the host minted)."""

    user_id: UUID
    session_id: UUID | None


@dataclass(frozen=True, slots=True)
class SessionEnded(AfterEvent):
    """One session was ended, by its user or because a spent refresh token came back."""

    user_id: UUID
    session_id: UUID


@dataclass(frozen=True, slots=True)
class EmailVerified(AfterEvent, Generic[U]):
    """An account was verified: by its link, a reset of the password or a confirmed new address."""

    user: U


@dataclass(frozen=True, slots=True)
class MailboxClaimed(AfterEvent, Generic[U]):
    """The owner of the mailbox took over an account that was never verified: the person who made it
    has lost access, and the fields that users fill in and may leave empty are empty."""

    user: U


@dataclass(frozen=True, slots=True)
class EmailChanged(AfterEvent, Generic[U]):
    """An account has another address."""

    user: U
    old_email: str


@dataclass(frozen=True, slots=True)
class PasswordChanged(AfterEvent, Generic[U]):
    """An account has another password, and no session."""

    user: U
    by_reset: bool


@dataclass(frozen=True, slots=True)
class ProfileChanged(AfterEvent, Generic[U]):
    """These columns of an account have other values."""

    user: U
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TwoFactorEnabled(AfterEvent, Generic[U]):
    """Logins need a code from now on."""

    user: U


@dataclass(frozen=True, slots=True)
class TwoFactorDisabled(AfterEvent, Generic[U]):
    """Logins no longer need a code."""

    user: U


@dataclass(frozen=True, slots=True)
class AccountDeleted(AfterEvent):
    """An account is gone, with all that referred to it."""

    user_id: UUID
    email: str


Handler: TypeAlias = Callable[[Any], object]
"""A function of an event, async or not."""

P = ParamSpec("P")


class HookError(Exception):
    """A handler failed before or inside a transaction, for its own error, the cause; answered as 500."""


class Hooks:
    """The handlers of one app, which `Auth.on` adds, in the order in which they were added. None may refuse
    with one of these `codes`, which are those of the library and its features."""

    def __init__(self, settings: AuthSettings, codes: Container[str] = ()) -> None:
        self._settings = settings
        self._codes = codes
        self.handlers: list[tuple[type[Event], Handler]] = []

    def add(self, event: type[Event], handler: Handler) -> None:
        """Calls a handler with each event of this class, or of a class below it, from now on."""
        self.handlers.append((event, handler))

    def hear(self, event: type[Event]) -> bool:
        """Whether there is a handler for such events."""
        return any(issubclass(event, heard) for heard, _ in self.handlers)

    async def fire(self, event: Callable[P, Event], /, *args: P.args, **values: P.kwargs) -> None:
        """Makes an event of this class, where there is a handler for it, and calls one after the other.

        Raises what handlers raise before and inside a transaction: `AuthError`, failures of the database, and
        `HookError` for any other. One that takes too long, or to which something else does not answer
        (`OSError`, `TimeoutError`, or another raised for one), is `AuthError(HOOK_UNAVAILABLE)`. After it,
        raises nothing.
        """
        if not self.handlers:
            return
        happening: Event | None = None
        for heard, handler in [*self.handlers]:
            if not issubclass(event, heard):  # type: ignore[arg-type]  # a class, which P hides
                continue
            happening = happening or event(*args, **values)
            if isinstance(happening, AfterEvent):
                await self.tell(handler, happening)
            else:
                await self._ask(handler, happening)

    async def tell(self, handler: Handler, event: AfterEvent | SecurityEvent) -> None:
        """Calls a handler with what is done. That it fails, or takes too long, is logged."""
        try:
            await self._in_time(handler, event)
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and _being_cancelled():
                raise
            logger.exception("%s failed on %s", name_of(handler), type(event).__name__)

    async def _ask(self, handler: Handler, event: Event) -> None:
        where = f"{name_of(handler)} on {type(event).__name__}"
        try:
            if isinstance(event, DuringEvent):  # which has the time that the database has
                with spent_by(where):
                    await _call(handler, event)
            else:
                await self._in_time(handler, event)
        except Exception as raised:
            error = _alone(raised)
            if isinstance(error, Refused) and error.code.code in self._codes:
                error = ValueError(f"{error.code.code!r} is the code of a feature: refuse with another.")
            # Flows take a broken constraint for one of their own.
            passes = failure_of(error) not in (None, Failure.REFUSED, Failure.UNFIT)
            if passes or isinstance(error, AuthError):
                raise error from error.__cause__
            if got_no_answer(error):
                names = " for ".join(type(each).__name__ for each in _with_causes(error))
                logger.error("%s got no answer, or not in time: %s", where, names)
                raise AuthError(ErrorCode.HOOK_UNAVAILABLE, retry_after=1) from error
            raise HookError(f"{name_of(handler)} failed on {type(event).__name__}") from error

    async def _in_time(self, handler: Handler, event: object) -> None:
        with deadline_paused():
            async with asyncio.timeout(self._settings.hook_timeout.total_seconds()):
                await _call(handler, event)


def is_same(handler: Handler, other: Handler) -> bool:
    """Whether two handlers are one function, also of a module that was imported by two names."""
    if handler == other:
        return True
    code, others = (getattr(each, "__code__", None) for each in (handler, other))
    if code is None or others is None or handler.__module__ == other.__module__:
        return False
    return bool((code.co_filename, code.co_firstlineno) == (others.co_filename, others.co_firstlineno))


async def _call(handler: Handler, event: object) -> None:
    told = handler(event)
    if inspect.isawaitable(told):
        await told


def got_no_answer(error: BaseException) -> bool:
    """Whether a function of the app failed as a service gave it no answer, or not in time."""
    return any(map(_is_of_a_network, _with_causes(error)))


def _alone(error: Exception) -> Exception:
    """Why a group of tasks in a handler has failed, where there is one cause."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _with_causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it was raised for: clients of services have their own errors."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__  # also one that is not to be shown


def _is_of_a_network(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.filename is None  # also a time limit


def _being_cancelled() -> bool:
    """Whether the request is, rather than something that a handler waited for."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
