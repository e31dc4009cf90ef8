"""What a host app puts into `Depends()` where being signed in is not enough, or is optional."""

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
from .flows.authentication import Authentication, require_phishing_resistant, require_second_factor
from .http.cookies import sends_token
from .http.demands import ENROLLED, RECENT, Demand
from .lookup import auth_of
from .models import AbstractUser, User
from .models.user import U
from .security.names import name_set

MaybeU = TypeVar("MaybeU", bound=AbstractUser | None, default=User | None)


def _known(roles: frozenset[str], scopes: frozenset[str]) -> Demand:
    """That the app has such names: a typo would keep everyone out, unnoticed."""

    def check(auth: Auth, _: Authentication) -> None:
        every = (
            ("include_auth(roles=...) has no role", roles, auth.roles.keys()),
            ("No feature of the app has the scope", scopes, auth.features.scopes),
        )
        for told, asked, known in every:
            unknown = asked - known
            if known and unknown:
                raise ValueError(f"{told} {', '.join(sorted(unknown))}")

    return Demand(check)


def _verified(auth: Auth, authentication: Authentication) -> None:
    if not authentication.user.is_verified:
        raise AuthError(ErrorCode.VERIFICATION_REQUIRED)


def _permitted(roles: frozenset[str], permissions: frozenset[str], *, superuser: bool) -> Demand:
    """One of the roles and all of the permissions, or to be a superuser."""

    def check(auth: Auth, authentication: Authentication) -> None:
        user = authentication.user
        if user.is_superuser:
            return
        lacks_role = bool(roles) and roles.isdisjoint(user.roles)
        lacks_permission = bool(permissions) and not permissions <= auth.permissions_of(user)
        if superuser or lacks_role or lacks_permission:
            raise AuthError(ErrorCode.PERMISSION_DENIED)

    return Demand(check, (ErrorCode.PERMISSION_DENIED,), reported=True)


def _scoped(scopes: frozenset[str]) -> Demand:
    """All of the scopes, of a personal access token."""

    def check(_: Auth, authentication: Authentication) -> None:
        if authentication.scopes is not None and not scopes <= authentication.scopes:
            raise AuthError(ErrorCode.INSUFFICIENT_SCOPE, scope=" ".join(sorted(scopes)))

    return Demand(check, (ErrorCode.INSUFFICIENT_SCOPE,), reported=True)


VERIFIED: Final = Demand(_verified, (ErrorCode.VERIFICATION_REQUIRED,), reported=True)
TWO_FACTOR: Final = Demand(
    lambda _, authentication: require_second_factor(authentication),
    (ErrorCode.TWO_FACTOR_ENROLMENT_REQUIRED, ErrorCode.STEP_UP_REQUIRED),
)
PHISHING_RESISTANT: Final = Demand(require_phishing_resistant, (ErrorCode.STEP_UP_REQUIRED,))


def require(
    *names: Never,
    verified: bool = False,
    role: str | Iterable[str] | None = None,
    permission: str | Iterable[str] | None = None,
    scope: str | Iterable[str] | None = None,
    recent: bool = False,
    two_factor: bool = False,
    phishing_resistant: bool = False,
    superuser: bool = False,
) -> UserDependency:
    """A dependency that gives the user, like `get_current_user`, and refuses users who lack what is asked
    for:

    `verified`, a verified address; `role`, one of these roles; `permission`, all of these permissions;
    `recent`, a login within `reauth_ttl`; `two_factor`, two-factor switched on, or a passkey shown in this
    session; `phishing_resistant`, a passkey shown in this session; `superuser`, to be one. A superuser has
    every role and permission. `scope` lets personal access tokens in that have all of these scopes, which
    no other dependency does; a user in person has every scope, and a program no recent login.

    The dependency raises like `get_current_user`, and `AuthError`, answered as 403: VERIFICATION_REQUIRED,
    PERMISSION_DENIED, INSUFFICIENT_SCOPE (RFC 6750 section 3.1), REAUTHENTICATION_REQUIRED,
    TWO_FACTOR_ENROLMENT_REQUIRED, STEP_UP_REQUIRED. It raises `ValueError` at the first request where the
    app has named its roles or scopes and this is not one of them; `require` itself does for what is not a
    name (RFC 6749 section 3.3), and for an empty collection, which would let everybody in, and `TypeError`
    for an argument of another type, or without its name."""
    if names:
        raise TypeError(
            f"require() does not know whether {names[0]!r} is a role or a permission: write "
            f"`require(role={names[0]!r})` or `require(permission={names[0]!r})`."
        )
    for name, value in (
        ("verified", verified),
        ("recent", recent),
        ("two_factor", two_factor),
        ("phishing_resistant", phishing_resistant),
        ("superuser", superuser),
    ):
        require_bool(name, value)
    roles, permissions = _asked("role", role), _asked("permission", permission)
    scopes = _asked("scope", scope)
    demands = [_known(roles, scopes), ENROLLED]
    if verified:
        demands.append(VERIFIED)
    if roles or permissions or superuser:
        demands.append(_permitted(roles, permissions, superuser=superuser))
    if scopes:
        demands.append(_scoped(scopes))
    if two_factor:
        demands.append(TWO_FACTOR)
    if phishing_resistant:
        demands.append(PHISHING_RESISTANT)
    if recent:  # last: nobody should enter a password for what is refused anyway
        demands.append(RECENT)
    return UserDependency(current_user, *demands, scopes=scopes)


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
        auth_of(request)  # also for strangers: an app without one learns so at its first request
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


get_optional_user: Final = _Optional(current_user, ENROLLED)
"""The user who asks, or None where nobody is signed in. A token that is not valid is 401 as elsewhere: its
client would else take the answer for a stranger for its own."""

OptionalUser = Annotated[U | None, Depends(get_optional_user)]

Superuser = Annotated[U, Depends(require(superuser=True))]
