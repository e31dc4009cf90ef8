"""What a dependency asks of the user: each demand is a callable that refuses, and says with which codes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from ..auth import Auth
from ..errors import AuthError, ErrorCode
from ..events import EventKind, Observation, Outcome
from ..flows.authentication import (
    Authentication,
    require_enrolled,
    require_recent_login,
    require_scopes,
)


@dataclass(frozen=True, slots=True)
class Demand:
    """One demand. Raises `AuthError` with one of its `codes` where it is not met; a refusal that is
    `reported` is an event too."""

    check: Callable[[Auth, Authentication], None]
    codes: tuple[ErrorCode, ...] = ()
    reported: bool = False

    def __call__(self, auth: Auth, authentication: Authentication) -> None:
        """Checks it."""
        self.check(auth, authentication)


ENROLLED: Final = Demand(
    require_enrolled, (ErrorCode.TWO_FACTOR_ENROLMENT_REQUIRED, ErrorCode.STEP_UP_REQUIRED)
)
"""To have set up two-factor, where the app requires it of this user, and shown it."""

RECENT: Final = Demand(
    require_recent_login, (ErrorCode.REAUTHENTICATION_REQUIRED, ErrorCode.IMPERSONATION_FORBIDDEN)
)
"""A login within `reauth_ttl` (ASVS 7.5.3), and in person."""

SIGNED_IN: Final = (
    ErrorCode.NOT_AUTHENTICATED,
    ErrorCode.INVALID_TOKEN,
    ErrorCode.REFRESH_RACED,
    ErrorCode.CSRF_REFUSED,
    *ENROLLED.codes,
)
"""How a route refuses a client that is not signed in, or not with all factors."""

RECENT_LOGIN: Final = RECENT.codes
"""How a route refuses a user whose login is too long ago, or an administrator who acts as the user."""


def scopes_demanded(asked: Iterable[str]) -> tuple[Demand, ...]:
    """Those of FastAPI's `Security(..., scopes=...)`: none, or one."""
    if not (scopes := frozenset(asked)):
        return ()

    def check(auth: Auth, authentication: Authentication) -> None:
        require_scopes(auth, authentication, scopes)

    return (Demand(check, (ErrorCode.INSUFFICIENT_SCOPE,), reported=True),)


async def meet(auth: Auth, authentication: Authentication, demands: Iterable[Demand]) -> None:
    """Checks one demand after the other. Raises `AuthError` for the first that is not met."""
    for demand in demands:
        try:
            demand(auth, authentication)
        except AuthError as error:
            if demand.reported:
                seen = Observation(authentication.user.id, authentication.session_id)
                await auth.events.emit(EventKind.ACCESS, Outcome.FAILURE, seen, reason=error.code.code)
            raise
