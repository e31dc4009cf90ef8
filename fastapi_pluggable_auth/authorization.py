"""What a host app puts into `Depends()` where being signed in is not enough, or not needed."""

from collections.abc import Iterable
from inspect import Parameter, Signature
from typing import Annotated, Any, Final, Never, cast

from fastapi import Depends
from fastapi.security import SecurityScopes
from starlette.requests import HTTPConnection
from typing_extensions import TypeVar

from .arguments import require_bool, require_instance
from .auth import Auth
from .dependencies import NO_SCOPES, SignedIn, UserDependency, current_user, has_credentials, of_http
from .errors import AuthError, ErrorCode
from .events import EventKind, Observation, Outcome
from .flows.authentication import Authentication, require_recent_login
from .http.cookies import sends_token
from .lookup import auth_of
from .models import AbstractUser, User
from .models.user import U
from .security.names import name_set

MaybeU = TypeVar("MaybeU", bound=AbstractUser | None, default=User | None)


class Requirement(UserDependency):
    """What `require` returns."""

    def __init__(
        self,
        *,
        verified: bool,
        roles: frozenset[str],
        permissions: frozenset[str],
        scopes: frozenset[str],
        recent: bool,
        two_factor: bool,
        superuser: bool,
    ) -> None:
        super().__init__(current_user, allow_personal=bool(scopes))
        self._verified = verified
        self._roles = roles
        self._permissions = permissions
        self._scopes = scopes
        self._recently = recent
        self._two_factor = two_factor
        self._superuser = superuser
        self._known_to: Auth | None = None

    async def _check(self, auth: Auth, authentication: Authentication) -> None:
        self._require_known_names(auth)
        await super()._check(auth, authentication)
        code = self._refusal(auth, authentication)
        if code is not None:
            seen = Observation(authentication.user.id, authentication.session_id)
            await auth.events.emit(EventKind.ACCESS, Outcome.FAILURE, seen, reason=code.code)
            raise AuthError(code, scope=" ".join(sorted(self._scopes)))
        if self._two_factor and not authentication.user.two_factor_active:
            raise AuthError(ErrorCode.TWO_FACTOR_ENROLMENT_REQUIRED)
        if self._recently:  # at last: nobody types a password for what is refused anyway
            require_recent_login(auth, authentication)

    async def _check_scopes(self, auth: Auth, authentication: Authentication, asked: frozenset[str]) -> None:
        await super()._check_scopes(auth, authentication, asked - self._scopes)  # which were checked already

    def _refusal(self, auth: Auth, authentication: Authentication) -> ErrorCode | None:
        user = authentication.user
        if self._verified and not user.is_verified:
            return ErrorCode.VERIFICATION_REQUIRED
        if not (user.is_superuser or self._is_allowed(auth, user)):
            return ErrorCode.PERMISSION_DENIED
        if authentication.scopes is not None and not self._scopes <= authentication.scopes:
            return ErrorCode.INSUFFICIENT_SCOPE
        return None

    def _is_allowed(self, auth: Auth, user: AbstractUser) -> bool:
        if self._superuser or (self._roles and self._roles.isdisjoint(user.roles)):
            return False
        return not self._permissions or self._permissions <= auth.permissions_of(user)

    def _require_known_names(self, auth: Auth) -> None:
        """Once for an app: a name with a slip of the pen would keep everybody out, and nobody would know."""
        if auth is self._known_to:
            return
        for kind, asked, known in (("role", self._roles, auth.roles), ("scope", self._scopes, auth.scopes)):
            unknown = asked - known.keys()
            if known and unknown:
                raise ValueError(f"include_auth({kind}s=...) has no {kind} {', '.join(sorted(unknown))}")
        self._known_to = auth


def require(
    *names: Never,
    verified: bool = False,
    role: str | Iterable[str] | None = None,
    permission: str | Iterable[str] | None = None,
    scope: str | Iterable[str] | None = None,
    recent: bool = False,
    two_factor: bool = False,
    superuser: bool = False,
) -> Requirement:
    """A dependency that gives the user, like `get_current_user`, and refuses whoever lacks what is asked for:

    `verified`, a verified address; `role`, one of these roles; `permission`, all of these permissions;
    `recent`, a login within `reauth_ttl`; `two_factor`, two-factor switched on; `superuser`, to be one. A
    superuser has every role and permission. `scope` lets personal access tokens in that have all of these
    scopes, which no other dependency does; a user in person has every scope, and a program no recent login.

    The dependency raises like `get_current_user`, and `AuthError`, answered as 403: VERIFICATION_REQUIRED,
    PERMISSION_DENIED, INSUFFICIENT_SCOPE (RFC 6750 section 3.1), REAUTHENTICATION_REQUIRED,
    TWO_FACTOR_ENROLMENT_REQUIRED. It raises `ValueError` at the first request where the app has named its
    roles or scopes and this is none of them; `require` itself does for what is no name (RFC 6749 section
    3.3), and for an empty collection, which would let everybody in, and `TypeError` for an argument of
    another type, or without its name.
    """
    if names:
        raise TypeError(
            f"require() does not know whether {names[0]!r} is a role or a permission: write "
            f"`require(role={names[0]!r})` or `require(permission={names[0]!r})`."
        )
    for name, value in (
        ("verified", verified),
        ("recent", recent),
        ("two_factor", two_factor),
        ("superuser", superuser),
    ):
        require_bool(name, value)
    return Requirement(
        verified=verified,
        roles=_asked("role", role),
        permissions=_asked("permission", permission),
        scopes=_asked("scope", scope),
        recent=recent,
        two_factor=two_factor,
        superuser=superuser,
    )


class RequireIsToBeCalled:
    """Write `Depends(require(...))`: FastAPI would take the arguments of `Depends(require)` for parameters of
    the query and let everybody in. It refuses this class when the route is defined, and names it."""


require.__signature__ = Signature(  # type: ignore[attr-defined]  # read by FastAPI
    [Parameter("asked", Parameter.KEYWORD_ONLY, annotation=RequireIsToBeCalled)]
)


def _asked(argument: str, names: str | Iterable[str] | None) -> frozenset[str]:
    if names is not None:
        require_instance(argument, names, Iterable, f'write `require({argument}="name")`.')
    asked = frozenset[str]() if names is None else name_set(names)
    if names is not None and not asked:
        raise ValueError("require() was given no name; leave the argument out where nothing is asked for")
    return asked


class _Optional(SignedIn[Any]):
    is_must = False

    async def __call__(self, request: HTTPConnection, asked: SecurityScopes = NO_SCOPES) -> MaybeU:
        request = of_http(request)
        auth_of(request)  # also for strangers: an app without one is told so at its first request
        if not has_credentials(request):
            return cast(MaybeU, None)
        by_cookie = not sends_token(request)
        try:
            user: MaybeU = await super().__call__(request, asked)
        except AuthError as error:
            # The response deletes such cookies; a client that sends a token has to learn that it is spent.
            if by_cookie and error.code is ErrorCode.INVALID_TOKEN:
                return cast(MaybeU, None)
            raise
        return user


get_optional_user: Final = _Optional(current_user)
"""The user who asks, or None where nobody is signed in. A token that is not valid is 401 as elsewhere: its
client would else take the answer for a stranger for its own."""

OptionalUser = Annotated[U | None, Depends(get_optional_user)]

Superuser = Annotated[U, Depends(require(superuser=True))]
