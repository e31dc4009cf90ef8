"""Who is asking: what an access token stands for, and how recently its user signed in."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Generic
from uuid import UUID

from ..auth import Auth
from ..errors import AuthError, ErrorCode
from ..events import EventTable, Observation
from ..models import AbstractUser, exact
from ..models.user import U_co
from ..security.devices import DEVICE
from ..security.jwt import ACCESS, Claims, Transport, generation_of, issued_at_of, session_of, subject_of
from .acting import WRITE, acting_administrator, covers, end_impersonation
from .generations import note_shown

_USE_RECORDED_EVERY: Final = timedelta(minutes=1)
_NEVER: Final = datetime.min.replace(tzinfo=UTC)
"""When a program has last typed a password."""


@dataclass(frozen=True, slots=True)
class Authentication(Generic[U_co]):
    """Who is asking. `session_id` is None for a token that the host app minted on the user alone, and for a
    token of a program, whose `scopes` are not None; `resources` are the addresses that such a token is for,
    where it is not for all of the app; `live` is whether the session has not ended; `gen` counts the pairs of
    the session, in which these `factors` were shown; `administrator` acts as the user."""

    user: U_co
    session_id: UUID | None
    authenticated_at: datetime
    live: bool = True
    gen: int = 0
    factors: frozenset[str] = frozenset()
    scopes: frozenset[str] | None = None
    resources: frozenset[str] | None = None
    administrator: AbstractUser | None = None

    @property
    def impersonated_by(self) -> UUID | None:
        """The administrator's id."""
        return None if self.administrator is None else self.administrator.id


def of_program(
    user: AbstractUser, scopes: frozenset[str], resources: frozenset[str] | None = None
) -> Authentication:
    """That of a program which acts for the user by a token with scopes: never a recent login."""
    return Authentication(user, None, _NEVER, scopes=scopes, resources=resources)


def is_use_due(used_at: datetime | None, now: datetime) -> bool:
    """Whether a use is to be recorded of what was last used then: once a minute."""
    return used_at is None or used_at <= now - _USE_RECORDED_EVERY


def observed(
    auth: Auth, kind: EventTable, authentication: Authentication
) -> AbstractAsyncContextManager[Observation]:
    """`SecurityLog.observe` for what a signed-in user does."""
    return auth.events.observe(kind, user_id=authentication.user.id, session_id=authentication.session_id)


async def authenticate(
    auth: Auth,
    token: str,
    *,
    transport: Transport = Transport.BEARER,
    allow_ended: bool = False,
    confirm: bool = True,
) -> Authentication:
    """Who an access token stands for, in one query. Raises `AuthError(INVALID_TOKEN)` when the token, the
    session or the account is not valid, or where it was made for another `transport`. `allow_ended` accepts a
    session that has ended.

    The first time that a token of a rotation is shown takes a second statement, which notes it; not to
    `confirm` is for one that the client does not have yet.
    """
    claims = auth.signer.verify(token, ACCESS, transport=transport)
    del token  # what waits for the database holds no secret: an error tracker would send it
    user_id, session_id = subject_of(claims), session_of(claims)
    if session_id is None:
        user = await exact(auth.tables.user.all(), id=user_id, is_active=True)
        if user is None or _outdated(claims, user):
            raise AuthError(ErrorCode.INVALID_TOKEN)
        return Authentication(user, None, issued_at_of(claims))
    gen = generation_of(claims)
    return await authenticate_session(
        auth, user_id, session_id, gen, allow_ended=allow_ended, confirm=confirm
    )


async def authenticate_session(
    auth: Auth,
    user_id: UUID,
    session_id: UUID,
    gen: int,
    *,
    allow_ended: bool = False,
    confirm: bool = True,
) -> Authentication:
    """The same for who is known to have had a token of this generation. Raises `AuthError(INVALID_TOKEN)`."""
    session = await auth.queries.session.first(id=session_id, user_id=user_id)
    if session is None:
        raise AuthError(ErrorCode.INVALID_TOKEN)
    user = session["user"]
    live = is_live(auth, session["revoked_at"], session["expires_at"])
    administrator = None
    if (by := session["impersonated_by"]) is not None:
        administrator = await acting_administrator(auth, user, by, session["begun_in"])
        if administrator is None and live:
            await end_impersonation(auth, user_id, session_id)
            live = False
    if not (user.is_active and (live or allow_ended)):
        raise AuthError(ErrorCode.INVALID_TOKEN)
    if gen and live:
        await note_shown(auth, user_id, session_id, session, gen, confirm=confirm)
    authenticated_at = session["authenticated_at"]
    factors = frozenset(session["factors"].split())
    return Authentication(
        user, session_id, authenticated_at, live, gen=gen, factors=factors, administrator=administrator
    )


def is_recent(auth: Auth, authentication: Authentication) -> bool:
    """Whether the user's login is younger than `reauth_ttl`, and made in person: no program has one, and no
    trusted device has spared a factor of it."""
    if authentication.impersonated_by is not None or authentication.scopes is not None:
        return False
    if DEVICE in authentication.factors:
        return False
    return auth.clock() - authentication.authenticated_at <= auth.settings.reauth_ttl


def require_recent_login(auth: Auth, authentication: Authentication) -> None:
    """Raises `AuthError(REAUTHENTICATION_REQUIRED)` unless the login is younger than `reauth_ttl`, and
    IMPERSONATION_FORBIDDEN always where an administrator acts as the user."""
    refuse_impersonation(authentication)
    if not is_recent(auth, authentication):
        raise AuthError(ErrorCode.REAUTHENTICATION_REQUIRED)


def refuse_impersonation(authentication: Authentication) -> None:
    """Raises `AuthError(IMPERSONATION_FORBIDDEN)` where an administrator acts as the user."""
    if authentication.impersonated_by is not None:
        raise AuthError(ErrorCode.IMPERSONATION_FORBIDDEN)


def require_enrolled(auth: Auth, authentication: Authentication) -> None:
    """Raises `AuthError`, where the app requires two-factor of this user: TWO_FACTOR_ENROLMENT_REQUIRED for
    one who has to set it up, else as `require_second_factor`."""
    user = authentication.user
    if user.two_factor_active or not auth.requires_two_factor(user):
        return
    require_second_factor(authentication)


def require_second_factor(authentication: Authentication) -> None:
    """Raises `AuthError`: TWO_FACTOR_ENROLMENT_REQUIRED for a user without a second factor, and
    STEP_UP_REQUIRED for one who has not shown it in this session, nor was spared it by a trusted device: not
    every login asks for those beside an authenticator app."""
    user = authentication.user
    if user.two_factor_active:
        return
    if not user.second_factors:
        raise AuthError(ErrorCode.TWO_FACTOR_ENROLMENT_REQUIRED)
    in_person = authentication.session_id is not None and authentication.administrator is None
    if in_person and (user.second_factors | {DEVICE}).isdisjoint(authentication.factors):
        raise AuthError(ErrorCode.STEP_UP_REQUIRED)


def require_phishing_resistant(auth: Auth, authentication: Authentication) -> None:
    """Raises `AuthError(STEP_UP_REQUIRED)` unless a factor that a look-alike site cannot pass on was shown in
    this session, by the user in person (NIST SP 800-63B-4 section 3.2.5)."""
    shown = frozenset() if authentication.administrator is not None else authentication.factors
    if auth.features.phishing_resistant.isdisjoint(shown):
        raise AuthError(ErrorCode.STEP_UP_REQUIRED)


def require_write(auth: Auth, authentication: Authentication) -> None:
    """Raises `AuthError(IMPERSONATION_FORBIDDEN)` where an administrator acts as the user who may not change
    accounts as themselves."""
    administrator = authentication.administrator
    if administrator is not None and not covers(auth, administrator, (), (WRITE,)):
        raise AuthError(ErrorCode.IMPERSONATION_FORBIDDEN)


def require_scopes(auth: Auth, authentication: Authentication, asked: frozenset[str]) -> None:
    """Raises `AuthError(INSUFFICIENT_SCOPE)` unless the user has the permission of the name of each scope,
    and a personal access token the scope as well: a permission is what a person's scope is."""
    user, scopes = authentication.user, authentication.scopes
    permitted = user.is_superuser or asked <= auth.permissions_of(user)
    if not permitted or (scopes is not None and not asked <= scopes):
        raise AuthError(ErrorCode.INSUFFICIENT_SCOPE, scope=" ".join(sorted(asked)))


def is_live(auth: Auth, revoked_at: datetime | None, expires_at: datetime) -> bool:
    """Whether a session with these columns has not ended."""
    return revoked_at is None and auth.clock() < expires_at


def _outdated(claims: Claims, user: AbstractUser) -> bool:
    """Whether a token without session was signed before the password changed."""
    changed = user.password_changed_at
    return changed is not None and issued_at_of(claims) < changed.replace(microsecond=0)
