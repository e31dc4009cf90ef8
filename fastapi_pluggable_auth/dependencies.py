"""What a host app puts into `Depends()`."""

from collections.abc import Callable, Coroutine
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Final, Generic, TypeVar, cast

from fastapi import Depends, FastAPI, Request
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_dependant
from fastapi.openapi.models import HTTPBearer
from fastapi.security import SecurityScopes
from fastapi.security.base import SecurityBase
from starlette.requests import HTTPConnection

from .auth import Auth
from .errors import AuthError, ErrorCode
from .events import EventKind, Observation, Outcome, actor
from .features.feature import Credential
from .flows.authentication import Authentication, authenticate
from .http.addresses import enrolment_page, path_in_app, sign_in_page, step_up_page
from .http.cookies import authenticate_cookies, authenticates_by_cookie, sends_token
from .http.csrf import check_request
from .http.demands import ENROLLED, RECENT, Demand, meet, scopes_demanded
from .http.origin import note_origin
from .http.responses import SignInRequired
from .lookup import auth_of
from .models.user import U
from .security.bearer import bearer_tokens
from .security.csrf import SAFE_METHODS

T = TypeVar("T")

_SCOPE_KEY: Final = "fastapi_pluggable_auth.authentication"

NO_SCOPES: Final = SecurityScopes()

SCHEME: Final = "Auth-AccessToken"
"""The security scheme of the OpenAPI document."""


async def get_auth(request: Request) -> Auth:
    """The same as a dependency; async, as FastAPI sends others through a thread."""
    return auth_of(request)


CurrentAuth = Annotated[Auth, Depends(get_auth)]


def has_credentials(request: Request) -> bool:
    """Whether the request says who asks, truly or not."""
    return sends_token(request) or authenticates_by_cookie(request)


def of_http(request: HTTPConnection) -> Request:
    """The request. Raises `RuntimeError` on a WebSocket, where FastAPI gives no request."""
    if request.scope["type"] == "websocket":
        raise RuntimeError("This dependency is for HTTP routes: on a WebSocket take CurrentWebSocketUser.")
    return cast(Request, request)


class SignedIn(SecurityBase, Generic[T]):
    """A dependency that is the security scheme of the OpenAPI document as well: FastAPI takes 15 us to
    resolve each, also where it does nothing."""

    is_must = True
    """Whether it refuses clients that are not signed in."""

    def __init__(
        self,
        wanted: Callable[[Authentication], T],
        *demands: Demand,
        live: bool = True,
        scopes: frozenset[str] = frozenset(),
    ) -> None:
        """Without scopes no personal access token is taken."""
        self.scheme_name = SCHEME
        self._wanted = wanted
        self.demands: Final = demands
        self._live = live
        self._scopes = scopes

    @property
    def model(self) -> HTTPBearer:  # type: ignore[override]  # made when the document is
        """The scheme in the OpenAPI document."""
        return _bearer_scheme()

    async def __call__(self, request: HTTPConnection, asked: SecurityScopes = NO_SCOPES) -> T:
        """What is wanted of the client, read from the database for this request. `asked` are the scopes of
        FastAPI's `Security(..., scopes=...)`, also of those around it: see `require_scopes`."""
        request = of_http(request)  # by the name that error trackers leave out
        auth = auth_of(request)
        try:
            authentication = await _authenticate(
                request, auth, allow_ended=not self._live, allow_personal=bool(self._scopes)
            )
            await meet(auth, authentication, self.demands)
            if asked.scopes:  # beside its own, which were checked already
                await meet(auth, authentication, scopes_demanded({*asked.scopes} - self._scopes))
        except AuthError as error:
            if self._scopes:
                every = self._scopes.union(asked.scopes)
                error.challenge = auth.features.challenge(auth, path_in_app(request), every)
            raise
        return self._wanted(authentication)


@cache
def _bearer_scheme() -> HTTPBearer:
    """Once, as it takes 50 ms."""
    return HTTPBearer(
        bearerFormat="JWT",
        description="The `access_token` of `POST /auth/login`, of the type `at+jwt` (RFC 9068). Browsers may "
        "have it in a cookie instead.",
    )


def _all(authentication: Authentication) -> Authentication:
    return authentication


def current_user(authentication: Authentication) -> Any:
    """Of an authentication."""
    return authentication.user


class UserDependency(SignedIn[Any]):
    """A dependency that gives the user. A type checker takes the user for what it is assigned to, or given as
    in `CurrentUser[Member]`: no check at run time, as only the app knows its model."""

    if TYPE_CHECKING:

        async def __call__(self, request: HTTPConnection, asked: SecurityScopes = NO_SCOPES) -> U: ...


get_authentication: Final = SignedIn(_all, ENROLLED)
"""The user with the session that asks. Raises `AuthError`: 401 NOT_AUTHENTICATED without an access token, 401
INVALID_TOKEN when it or its session is not valid (RFC 6750 section 3), 403 TWO_FACTOR_ENROLMENT_REQUIRED for
a user who has to set up two-factor first."""

get_enrolling_authentication: Final = SignedIn(_all)
"""Like `get_authentication`, also for a user who has yet to set up a required two-factor."""

get_ended_authentication: Final = SignedIn(_all, live=False)
"""Like `get_enrolling_authentication`, also for a session that has ended: a logout may be repeated."""

get_current_user: Final = UserDependency(current_user, ENROLLED)
"""The user who asks; raises like `get_authentication`."""

get_recent_user: Final = UserDependency(current_user, ENROLLED, RECENT)
"""Like `get_current_user`, for sensitive routes: raises `AuthError`, answered as 403
REAUTHENTICATION_REQUIRED, when the login is older than `reauth_ttl` (ASVS 7.5.3)."""

EnrollingAuthentication = Annotated[Authentication, Depends(get_enrolling_authentication)]
CurrentAuthentication = Annotated[Authentication, Depends(get_authentication)]
CurrentUser = Annotated[U, Depends(get_current_user)]
RecentUser = Annotated[U, Depends(get_recent_user)]


async def _authenticate(
    request: Request, auth: Auth, *, allow_ended: bool, allow_personal: bool
) -> Authentication:
    """Once a request, however many dependencies ask: one takes personal access tokens, another does not."""
    known: dict[tuple[Auth, bool | str], Authentication] = request.scope.setdefault(_SCOPE_KEY, {})
    if (auth, allow_ended) in known:
        return known[auth, allow_ended]
    note_origin(request, auth)
    token = None if authenticates_by_cookie(request) else access_token(request)
    key: tuple[Auth, bool | str] = (auth, allow_ended)
    work: Coroutine[Any, Any, Authentication]
    other = auth.features.credential_of(token) if token is not None and allow_personal else None
    if token is not None and other is not None:
        key = (auth, "personal")
        if key in known:
            return known[key]
        work = _of_program(auth, other, token, path_in_app(request))
    elif token is not None:
        work = authenticate(auth, token, allow_ended=allow_ended)
    else:
        if request.method not in SAFE_METHODS:
            await check_request(request)
        work = authenticate_cookies(request, auth, allow_ended=allow_ended)
    del token  # an error tracker would send it with this frame
    try:
        authentication = await auth.with_deadline(work)
    except AuthError as error:
        if error.code.status == 401:
            reason = error.code.code
            await auth.events.emit(EventKind.ACCESS, Outcome.FAILURE, Observation(), reason=reason)
        raise
    actor.set(authentication.impersonated_by)
    known[key] = authentication
    return authentication


async def _of_program(auth: Auth, credential: Credential, token: str, path: str) -> Authentication:
    """Whom a token of a feature stands for at this path. Whatever the feature looks at, the account is
    active. Raises `AuthError`, and `TypeError` for an authentication without scopes, which would be that of a
    person."""
    work = credential.authenticate(auth, token)
    del token  # an error tracker would send it with this frame
    authentication: Authentication = await work
    if authentication.scopes is None:
        raise TypeError("What a `Credential` authenticates has scopes: `Authentication(..., scopes=...)`.")
    if not (authentication.user.is_active and credential.allows(auth, authentication, path)):
        raise AuthError(ErrorCode.INVALID_TOKEN)
    return authentication


def access_token(request: HTTPConnection) -> str:
    """The token of the one `Authorization` header. Raises `AuthError`: NOT_AUTHENTICATED without a token,
    INVALID_TOKEN where there is another header beside it."""
    headers = request.headers.getlist("authorization")
    tokens = bearer_tokens(headers)
    if not any(tokens):
        raise AuthError(ErrorCode.NOT_AUTHENTICATED)
    if len(headers) > 1:
        raise AuthError(ErrorCode.INVALID_TOKEN)
    return tokens[0]


SIGN_IN_FIRST: Final = frozenset(
    {ErrorCode.NOT_AUTHENTICATED, ErrorCode.INVALID_TOKEN, ErrorCode.REFRESH_RACED}
)
"""Refusals that the sign-in page solves: it leads straight back where a browser has newer cookies by then."""


async def current_user_or_redirect(request: HTTPConnection, asked: SecurityScopes = NO_SCOPES) -> U:
    """Like `get_current_user`, for pages: a visitor who is not signed in is sent to the sign-in page (303),
    which leads back by its parameter `next`; a user who has to set up two-factor first is sent to the page
    for it, if there is one."""
    request = of_http(request)
    try:
        return await get_current_user(request, asked)
    except AuthError as error:
        auth = auth_of(request)
        if error.code in SIGN_IN_FIRST:
            raise SignInRequired(sign_in_page(request, auth)) from error
        if error.code is ErrorCode.STEP_UP_REQUIRED and auth.pages:
            raise SignInRequired(step_up_page(request, auth)) from error
        if error.code is ErrorCode.TWO_FACTOR_ENROLMENT_REQUIRED and auth.pages:
            raise SignInRequired(enrolment_page(request, auth)) from error
        raise


PageUser = Annotated[U, Depends(current_user_or_redirect)]


def require_way_in(app: FastAPI) -> None:
    """Raises `ValueError` where the whole app asks for a user, directly or by a dependency of the host."""
    for each in app.router.dependencies:
        if each.dependency is not None and _asks_for_user(get_dependant(path="", call=each.dependency)):
            raise ValueError(
                "FastAPI(dependencies=[...]) asks for a signed-in user on every route, those for signing in "
                "as well: put that dependency on the routers of your own routes, such as "
                "`APIRouter(dependencies=[Depends(get_current_user)])`."
            )


def _asks_for_user(dependant: Dependant) -> bool:
    call = dependant.call
    if call is current_user_or_redirect or (isinstance(call, SignedIn) and call.is_must):
        return True
    return any(map(_asks_for_user, dependant.dependencies))
