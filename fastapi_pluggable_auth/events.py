"""Security events (ASVS 16.3): what was done to which account, from where, and how it ended."""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, TypeAlias
from uuid import UUID

from .errors import AuthError
from .security.clock import Clock

logger = logging.getLogger("fastapi_pluggable_auth.security")


MAXIMUM_KIND_LENGTH: Final = 32


class EventTable(StrEnum):
    """A table of kinds of security events, the names on the wire: the base of the kernel's and of those of
    features. Raises `ValueError` for a kind of more than 32 characters."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        long = [kind.value for kind in cls if len(kind) > MAXIMUM_KIND_LENGTH]
        if long:  # for its column in the audit log
            raise ValueError(f"{long[0]!r} has more than {MAXIMUM_KIND_LENGTH} characters.")


class EventKind(EventTable):
    """What was tried: the kinds of the kernel. Each has both outcomes, unless it says otherwise."""

    SIGNUP = "signup"
    LOGIN = "login"
    LOGIN_BEGUN = "login_begun"
    """The first factor was right, and the second is asked for: always a success."""
    REAUTHENTICATION = "reauthentication"
    ACCESS = "access"
    """A token or a permission was refused; allowed requests are the access log's business."""
    TOKEN_REFRESH = "token_refresh"  # noqa: S105
    REFRESH_LOST = "refresh_lost"
    """A spent refresh token came back, and nobody had what replaced it: that was replaced in turn, or revoked
    where retries are not answered. No alarm: always a success."""
    REFRESH_REUSE = "refresh_reuse"
    """Two had the same tokens and their session was ended: always a failure."""
    LOGOUT = "logout"
    SESSION_END = "session_end"
    OTHER_SESSIONS_END = "other_sessions_end"
    DEVICE_FORGOTTEN = "device_forgotten"
    EMAIL_VERIFICATION = "email_verification"
    MAILBOX_CLAIMED = "mailbox_claimed"
    """The owner of the mailbox took over an account that somebody had made with its address."""
    EMAIL_CHANGE_REQUEST = "email_change_request"
    EMAIL_CHANGE = "email_change"
    EMAIL_CHANGE_STOPPED = "email_change_stopped"
    PASSWORD_RESET_REQUEST = "password_reset_request"  # noqa: S105
    PASSWORD_RESET = "password_reset"  # noqa: S105
    PASSWORD_RESET_REQUIRED = "password_reset_required"  # noqa: S105
    PASSWORD_CHANGE = "password_change"  # noqa: S105
    RATE_LIMIT = "rate_limit"
    """A client asks too often: always a failure."""
    ACCOUNT_CREATION = "account_creation"
    """By an administrator, not by a signup."""
    ACCOUNT_INVITED = "account_invited"
    """Somebody was mailed a link to an account that has no password yet."""
    INVITATION_ACCEPTED = "invitation_accepted"
    ACCOUNT_DISABLED = "account_disabled"
    ACCOUNT_ENABLED = "account_enabled"
    ACCOUNT_UNLOCKED = "account_unlocked"
    """Wrong passwords and codes were forgotten by an administrator."""
    AUTHORIZATION_CHANGE = "authorization_change"
    """Roles, permissions or being a superuser were given or taken."""
    ACCOUNT_EXPORT = "account_export"
    """The user asked for a copy of all that is kept of them."""
    ACCOUNT_DELETION = "account_deletion"
    ACCOUNT_EXPIRED = "account_expired"
    """The purge deleted an account that was never verified."""


class Outcome(StrEnum):
    """How it ended."""

    SUCCESS = "success"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a request says that it comes from: printable and bounded."""

    address: str = ""
    user_agent: str = ""


@dataclass(frozen=True, slots=True)
class SecurityEvent:
    """One event. `time` is UTC; `user_id` is None where no account is known; `reason` is the code of the
    refusal; `factors` are those that were right (RFC 8176: `pwd`, `otp`, and `recovery` of our own);
    `actor_id` is the administrator who did it, None where it was the user, or somebody posing as one."""

    kind: EventTable
    outcome: Outcome
    time: datetime
    user_id: UUID | None
    session_id: UUID | None
    origin: Origin
    reason: str | None = None
    factors: tuple[str, ...] = ()
    actor_id: UUID | None = None

    def as_json(self) -> str:
        """One line of ASCII: whatever a client sends, it starts no new line and no terminal sequence."""
        return json.dumps(
            {
                "time": self.time.isoformat(),
                "event": self.kind,
                "outcome": self.outcome,
                "reason": self.reason,
                "user": _text(self.user_id),
                "actor": _text(self.actor_id),
                "session": _text(self.session_id),
                "factors": self.factors,
                "address": self.origin.address,
                "agent": self.origin.user_agent,
            }
        )


actor: ContextVar[UUID | None] = ContextVar("actor", default=None)
"""The administrator who does what is done now to the account of somebody else, or as somebody else."""


@dataclass(slots=True)
class Observation:
    """What a flow learns on its way; it becomes the event. What has no kind is not reported."""

    kind: EventTable | None = field(default=None, kw_only=True)
    user_id: UUID | None = None
    session_id: UUID | None = None
    factors: tuple[str, ...] = ()
    actor_id: UUID | None = field(default_factory=actor.get)


Listener: TypeAlias = Callable[[SecurityEvent], Awaitable[None] | None]

origin: ContextVar[Callable[[], Origin]] = ContextVar("origin", default=Origin)
"""Says where the request that is being answered comes from. Called only where that is needed."""


class SecurityLog:
    """Sends events to the log, one JSON line each, and to the listeners, which `Auth.on` adds."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.listeners: list[Listener] = []

    @asynccontextmanager
    async def observe(self, kind: EventTable, **known: Any) -> AsyncIterator[Observation]:
        """Emits one event when the work inside ends: a success, or a failure with the code of the
        `AuthError`. Stands outside the transaction, so that it reports what was committed."""
        observation = Observation(kind=kind, **known)
        try:
            yield observation
        except AuthError as error:
            await self.emit(kind, Outcome.FAILURE, observation, reason=error.code.code)
            raise
        if observation.kind is not None:
            await self.emit(observation.kind, Outcome.SUCCESS, observation)

    async def emit(
        self, kind: EventTable, outcome: Outcome, observation: Observation, *, reason: str | None = None
    ) -> None:
        """Sends one event. Never raises."""
        level = logging.INFO if outcome is Outcome.SUCCESS else logging.WARNING
        if not (self.listeners or logger.isEnabledFor(level)):
            return
        event = SecurityEvent(
            kind,
            outcome,
            self._clock(),
            observation.user_id,
            observation.session_id,
            origin.get()(),
            reason,
            observation.factors,
            observation.actor_id,
        )
        logger.log(level, event.as_json(), extra={"security_event": event})
        for listener in self.listeners:
            try:
                told = listener(event)
                if inspect.isawaitable(told):
                    await told
            except Exception:
                logger.exception("A listener failed on %s", kind)


def _text(value: UUID | None) -> str | None:
    return None if value is None else str(value)
