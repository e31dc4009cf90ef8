"""Signing in at others, and the identities of the user who asks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import urlencode

from fastapi import Form, Query, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import BaseModel, Field

from ...auth import Auth
from ...dependencies import CurrentAuth, EnrollingAuthentication
from ...errors import AuthError, ErrorCode
from ...flows.authentication import Authentication, require_recent_login
from ...flows.login import Challenge
from ...http.addresses import home, own_path
from ...http.cookies import authenticate_cookies, authenticates_by_cookie, device_of, sign_in, transport_for
from ...http.demands import RECENT_LOGIN, SIGNED_IN
from ...http.rates import rate_limited
from ...http.responses import documented
from ...routes.core import device_in, session_answer
from ...routes.ids import id_from
from ...routes.router import AuthRouter
from ...schemas import CookieSession, DeviceTokenPair, TextId, TokenPair, taken
from ...security.cookies import Cookies, received_cookies
from ...security.jwt import Transport
from ...security.plaintext import Plaintext
from ...security.redirects import safe_next
from . import addresses, flows, keeping
from .app_providers import provider_named, providers_of, redirect_uri
from .callback_routes import CallbackRoute, begun_by, lead_on, to_front_end
from .models import Identity
from .names import SocialError
from .providers import Provider
from .schemas import (
    CodeChallenge,
    IdentityOut,
    IdentityUpdate,
    ProviderOut,
    SocialBegun,
    SocialExchange,
    SocialNonce,
    SocialStart,
    SocialToken,
)
from .states import LIFETIME, Purpose, State, new_nonce, open_nonce, sealed

if TYPE_CHECKING:
    from ...routes.pages.forms import Problem

TAG: Final = "social login"
MOST_BEGUN: Final = 3
"""How many sign-ins a browser may have under way: each has a cookie, of which it keeps only so many."""

REFUSALS: Final = (
    SocialError.SOCIAL_EXPIRED,
    SocialError.SOCIAL_REFUSED,
    SocialError.SOCIAL_DENIED,
    SocialError.PROVIDER_UNKNOWN,
    SocialError.PROVIDER_UNAVAILABLE,
    SocialError.EMAIL_UNVOUCHED,
    SocialError.SIGN_IN_TO_LINK,
    SocialError.NO_ACCOUNT,
    SocialError.IDENTITY_TAKEN,
    SocialError.IDENTITY_HELD,
    ErrorCode.SIGNUP_CLOSED,
    ErrorCode.INVALID_CREDENTIALS,
    ErrorCode.PASSWORD_RESET_REQUIRED,
    ErrorCode.RATE_LIMITED,
)

router = AuthRouter(prefix="/auth", tags=[TAG], about="Signing in at others (OpenID Connect, OAuth 2).")

own = AuthRouter(prefix="/account/identities", tags=[TAG], responses=documented(*SIGNED_IN))


callbacks = AuthRouter(prefix="/auth/social", tags=[TAG], route_class=CallbackRoute, include_in_schema=False)


@router.get("/providers", operation_id="auth_list_providers", summary="List the providers")
async def list_providers(auth: CurrentAuth, request: Request) -> list[ProviderOut]:
    """The providers at which users can sign in, and where a browser begins: by a link, not by a form."""
    return [
        ProviderOut(
            name=each.name, label=each.label, start=own_path(request, auth, f"auth/social/{each.name}/start")
        )
        for each in providers_of(auth).values()
    ]


@router.post(
    "/social/{provider}/start",
    operation_id="auth_social_start",
    summary="Begin to sign in at a provider",
    dependencies=[rate_limited("social_start")],
    responses=documented(
        SocialError.PROVIDER_UNKNOWN,
        SocialError.PROVIDER_UNAVAILABLE,
        SocialError.CODE_CHALLENGE_NEEDED,
        ErrorCode.VALIDATION_ERROR,
        ErrorCode.RATE_LIMITED,
    ),
)
async def start(
    auth: CurrentAuth, request: Request, response: Response, provider: TextId, body: SocialStart
) -> SocialBegun:
    """Where the browser is to go. It gets a cookie, without which it cannot come back: an app opens
    `GET /auth/social/{provider}/start` in the browser instead."""
    chosen = provider_named(auth, provider)
    state = State(
        provider=chosen.name,
        next=safe_next(body.next),
        challenge=body.code_challenge,
        remember=body.remember,
    )
    return SocialBegun(url=await begin(auth, request, response, chosen, state))


@callbacks.get("/{provider}/start", dependencies=[rate_limited("social_start")])
async def start_page(
    auth: CurrentAuth,
    request: Request,
    provider: TextId,
    next: str = "",
    code_challenge: Annotated[CodeChallenge | None, Query()] = None,
    remember: str = "yes",
) -> Response:
    """Sends the browser to the provider."""
    chosen = provider_named(auth, provider)
    state = State(
        provider=chosen.name, next=safe_next(next), challenge=code_challenge, remember=remember == "yes"
    )
    response = RedirectResponse("/", 303, {"Referrer-Policy": "no-referrer", "Cache-Control": "no-store"})
    response.headers["location"] = await begin(auth, request, response, chosen, state)
    return response


@callbacks.get("/{provider}/callback", dependencies=[rate_limited("social_callback")])
async def callback(
    auth: CurrentAuth,
    request: Request,
    provider: TextId,
    code: Annotated[str, Query(max_length=4096)] = "",
    state: Annotated[str, Query(max_length=256)] = "",
    iss: Annotated[str | None, Query(max_length=512)] = None,
    error: Annotated[str, Query(max_length=256)] = "",
    name: Annotated[str | None, Query(max_length=256)] = None,
) -> Response:
    """Where the provider sends the browser back to."""
    chosen, secret = provider_named(auth, provider), Plaintext(code)
    del code  # an error tracker would send it with this frame
    begun = begun_by(auth, request, chosen.name, state)
    if error or not secret.look():
        raise AuthError(_ERRORS.get(error, SocialError.SOCIAL_REFUSED))
    arrived = await flows.arrive(auth, chosen, begun, redirect_uri(auth, chosen), secret, iss, name)
    response = await _finish(auth, request, begun, arrived)
    names = Cookies(secure=auth.settings.is_https)
    response.headers.append("set-cookie", names.delete(names.of_feature(begun.cookie)))
    return response


_DENIED: Final = SocialError.SOCIAL_DENIED
_ERRORS: Final = {
    **dict.fromkeys(("access_denied", "user_cancelled_login", "user_cancelled_authorize"), _DENIED),
    **dict.fromkeys(("consent_required", "login_required", "interaction_required"), _DENIED),
    **dict.fromkeys(("server_error", "temporarily_unavailable"), SocialError.PROVIDER_UNAVAILABLE),
}
"""What a provider reports (RFC 6749 section 4.1.2.1, Core section 3.1.2.6); Apple has its own for no."""


class CallbackForm(BaseModel):
    """What a provider posts (OAuth 2.0 Form Post Response Mode)."""

    code: str = Field(default="", repr=False)
    state: str = ""
    iss: str = ""
    error: str = ""
    user: str = ""

    def fields(self) -> dict[str, str]:
        """For the same callback by GET. Apple says the name of a user here, the first time, and nowhere
        else."""
        said = self.model_dump(exclude={"user"}) | {"name": _name_in(self.user)}
        return {name: value[:4096] for name, value in said.items() if value}


def _name_in(user: str) -> str:
    try:
        name = json.loads(user[:2048])["name"]
        return " ".join(str(name[part]) for part in ("firstName", "lastName") if name.get(part))[:128]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ""


@callbacks.post("/{provider}/callback", dependencies=[rate_limited("social_callback")])
async def posted_callback(
    auth: CurrentAuth, provider: TextId, form: Annotated[CallbackForm, Form()]
) -> Response:
    """The same by a page of the provider: it comes without the cookie, which a GET brings back."""
    chosen = provider_named(auth, provider)
    headers = {"Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}
    return RedirectResponse(
        f"{redirect_uri(auth, chosen)}?{urlencode(form.fields(), errors='replace')}", 303, headers
    )


async def _finish(auth: Auth, request: Request, state: State, arrived: flows.Arrived) -> Response:
    language = request.headers.get("accept-language", "")
    if state.purpose == "link":
        await flows.link(auth, await _session_of(request, auth, state), arrived, state)
        return _lead_on(auth, request, state, "identity_linked")
    if state.purpose == "reauthenticate":
        await flows.reauthenticate(auth, await _session_of(request, auth, state), arrived, state)
        return _lead_on(auth, request, state, "confirmed")
    device = device_of(request)
    try:
        if state.challenge is not None:
            code = await flows.code_for(auth, arrived, state, language)
            return to_front_end(auth, social_code=code, next=state.next)
        answer = await flows.sign_in(
            auth, arrived, state.spent, device, transport=Transport.COOKIE, accept_language=language
        )
    except AuthError as error:
        if error.code not in (SocialError.EMAIL_UNVOUCHED, SocialError.SIGN_IN_TO_LINK):
            raise
        return await _ask_address(auth, request, arrived, state)
    if auth.pages:
        from ...routes.pages.sign_in import show_answer  # in apps that have imported the pages

        return await show_answer(auth, request, answer, state.next, remember=state.remember)
    if isinstance(answer, Challenge):
        raise AuthError(ErrorCode.TWO_FACTOR_REQUIRED)
    sign_in(request, auth, answer, remember=state.remember)
    there = state.next or home(request, auth) or auth.settings.home_url
    return RedirectResponse(there, 303, {"Referrer-Policy": "no-referrer"})


async def _ask_address(auth: Auth, request: Request, arrived: flows.Arrived, state: State) -> Response:
    """Asks for an address, and for a code that is mailed there: on a page, or on that of the front-end."""
    wanted = await addresses.want_address(auth, arrived, state)
    if state.challenge is not None or not auth.pages:
        return to_front_end(auth, social_address=wanted.token, email=wanted.email, next=state.next)
    return ask_address(auth, request, wanted.token, wanted.email or "", state.next)


def ask_address(
    auth: Auth,
    request: Request,
    token: str,
    email: str,
    next: str | None,
    problem: Problem | None = None,
) -> Response:
    """The page that asks for an address."""
    from ...routes.pages.rendering import render_page  # in apps that have imported the pages

    next = safe_next(next)
    return render_page(auth, request, "social_address", problem=problem, token=token, email=email, next=next)


def _lead_on(auth: Auth, request: Request, state: State, done: str) -> Response:
    return lead_on(auth, request, state, done) if auth.pages else to_front_end(auth, done=done)


@router.post(
    "/social/exchange",
    operation_id="auth_social_exchange",
    summary="Take the tokens of a sign-in at a provider",
    dependencies=[rate_limited("login", sets_cookies=True)],
    responses=documented(
        SocialError.SOCIAL_EXPIRED,
        ErrorCode.INVALID_CREDENTIALS,
        ErrorCode.EMAIL_NOT_VERIFIED,
        ErrorCode.PASSWORD_RESET_REQUIRED,
        ErrorCode.TWO_FACTOR_REQUIRED,
        ErrorCode.TWO_FACTOR_UNAVAILABLE,
        ErrorCode.CSRF_REFUSED,
        ErrorCode.VALIDATION_ERROR,
        ErrorCode.THROTTLED,
        ErrorCode.CODES_LOCKED,
        ErrorCode.RATE_LIMITED,
    ),
)
async def exchange(
    auth: CurrentAuth, request: Request, body: SocialExchange
) -> DeviceTokenPair | TokenPair | CookieSession:
    """Spend the one-time code that `SOCIAL_RETURN_URL` got, within a minute. Where a second factor is needed,
    send it again with `code`."""
    secrets = taken(body, "social_code"), taken(body, "code_verifier")
    device, transport = device_in(request, body), transport_for(request)
    tokens = await flows.exchange(auth, *secrets, body.take_answer(), device, transport=transport)
    return session_answer(request, auth, tokens)


@router.post(
    "/social/{provider}/nonce",
    operation_id="auth_social_nonce",
    summary="Begin to sign in with a provider's token",
    dependencies=[rate_limited("social_start")],
    responses=documented(SocialError.PROVIDER_UNKNOWN, ErrorCode.RATE_LIMITED),
)
async def nonce(auth: CurrentAuth, provider: TextId) -> SocialNonce:
    """A nonce for the token of a native app, or of One Tap."""
    return SocialNonce(nonce=new_nonce(auth, provider_named(auth, provider).name))


@router.post(
    "/social/{provider}/token",
    operation_id="auth_social_token",
    summary="Sign in with a provider's token",
    dependencies=[rate_limited("login", sets_cookies=True)],
    responses=documented(
        *(code for code in REFUSALS if code is not SocialError.SOCIAL_DENIED),
        ErrorCode.EMAIL_NOT_VERIFIED,
        ErrorCode.TWO_FACTOR_REQUIRED,
        ErrorCode.TWO_FACTOR_UNAVAILABLE,
        ErrorCode.CSRF_REFUSED,
        ErrorCode.VALIDATION_ERROR,
        ErrorCode.THROTTLED,
        ErrorCode.CODES_LOCKED,
    ),
)
async def token(
    auth: CurrentAuth, request: Request, provider: TextId, body: SocialToken
) -> DeviceTokenPair | TokenPair | CookieSession:
    """Sign in with the id_token that a native app has got at the provider, for a nonce of this app. Where a
    second factor is needed, send them again with `code`."""
    chosen = provider_named(auth, provider)
    spends = open_nonce(auth, chosen.name, body.nonce)
    arrived = await flows.arrive_by_token(auth, chosen, taken(body, "id_token"), body.nonce)
    device, transport = device_in(request, body), transport_for(request)
    language = request.headers.get("accept-language", "")
    tokens = await flows.sign_in_by_token(
        auth, arrived, spends, body.take_answer(), device, transport=transport, accept_language=language
    )
    return session_answer(request, auth, tokens)


@own.get("", operation_id="account_list_identities", summary="List the identities")
async def list_identities(auth: CurrentAuth, authentication: EnrollingAuthentication) -> list[IdentityOut]:
    """The accounts elsewhere by which the user signs in, the oldest first."""
    return [_out(each) for each in await keeping.identities_of(auth, authentication.user.id)]


@own.post(
    "/{provider}",
    operation_id="account_connect_identity",
    summary="Begin to connect an identity",
    responses=documented(
        SocialError.PROVIDER_UNKNOWN,
        SocialError.PROVIDER_UNAVAILABLE,
        *RECENT_LOGIN,
        ErrorCode.VALIDATION_ERROR,
    ),
)
async def connect(
    auth: CurrentAuth,
    request: Request,
    response: Response,
    authentication: EnrollingAuthentication,
    provider: TextId,
    body: SocialStart,
) -> SocialBegun:
    """Where the browser is to go to connect an account there. Needs a recent login."""
    require_recent_login(auth, authentication)
    url = await begin_for(auth, request, response, authentication, provider, body.next, "link")
    return SocialBegun(url=url)


@own.post(
    "/{provider}/reauthenticate",
    operation_id="account_reauthenticate_at_provider",
    summary="Begin to confirm at a provider",
    responses=documented(
        SocialError.PROVIDER_UNKNOWN, SocialError.PROVIDER_UNAVAILABLE, ErrorCode.VALIDATION_ERROR
    ),
)
async def reauthenticate_at_provider(
    auth: CurrentAuth,
    request: Request,
    response: Response,
    authentication: EnrollingAuthentication,
    provider: TextId,
    body: SocialStart,
) -> SocialBegun:
    """Where the browser is to go to sign in once more. Only for providers of OpenID Connect, which say when
    their user has signed in."""
    if provider_named(auth, provider).issuer is None:
        raise AuthError(SocialError.PROVIDER_UNKNOWN)
    url = await begin_for(auth, request, response, authentication, provider, body.next, "reauthenticate")
    return SocialBegun(url=url)


@own.patch(
    "/{identity_id}",
    operation_id="account_keep_identity",
    summary="Keep an identity",
    responses=documented(SocialError.IDENTITY_NOT_FOUND, *RECENT_LOGIN, ErrorCode.VALIDATION_ERROR),
)
async def keep(
    auth: CurrentAuth, authentication: EnrollingAuthentication, identity_id: TextId, body: IdentityUpdate
) -> IdentityOut:
    """After a reset of the password, `keep` lets an identity sign in again. Needs a recent login."""
    wanted = id_from(identity_id, SocialError.IDENTITY_NOT_FOUND)
    if body.keep:
        return _out(await keeping.keep(auth, authentication, wanted))
    return _out(await keeping.identity_of(auth, authentication.user.id, wanted))


@own.delete(
    "/{identity_id}",
    operation_id="account_disconnect_identity",
    summary="Disconnect an identity",
    status_code=204,
    responses=documented(
        SocialError.IDENTITY_NOT_FOUND, ErrorCode.LAST_WAY_IN, *RECENT_LOGIN, ErrorCode.VALIDATION_ERROR
    ),
)
async def disconnect(auth: CurrentAuth, authentication: EnrollingAuthentication, identity_id: TextId) -> None:
    """Disconnect an identity, but not the last way in. Needs a recent login; the owner is told by mail."""
    await keeping.remove(auth, authentication, id_from(identity_id, SocialError.IDENTITY_NOT_FOUND))


async def begin_for(
    auth: Auth,
    request: Request,
    response: Response,
    authentication: Authentication,
    provider: str,
    next: str | None,
    purpose: Purpose,
) -> str:
    """Where the browser is to go for a user who is signed in. Raises `AuthError`."""
    if authentication.session_id is None:
        raise AuthError(ErrorCode.INVALID_TOKEN)
    chosen = provider_named(auth, provider)
    state = State(
        provider=chosen.name,
        purpose=purpose,
        next=safe_next(next),
        user_id=str(authentication.user.id),
        session_id=str(authentication.session_id),
    )
    return await begin(auth, request, response, chosen, state)


async def begin(auth: Auth, request: Request, response: Response, provider: Provider, state: State) -> str:
    """Gives the browser the cookie that brings it back, and the address of the provider. Raises
    `AuthError`."""
    if state.purpose == "sign_in" and state.challenge is None and not auth.uses_cookies:
        raise AuthError(SocialError.CODE_CHALLENGE_NEEDED)
    url = await flows.authorization_url(auth, provider, state, redirect_uri(auth, provider))
    names = Cookies(secure=auth.settings.is_https)
    received = [*received_cookies(request.scope["headers"])]
    begun = [name for name in received if name.startswith(names.of_feature("social_"))]
    for name in begun[: max(0, len(begun) + 1 - MOST_BEGUN)]:
        response.headers.append("set-cookie", names.delete(name))
    lifetime = int(LIFETIME.total_seconds())
    cookie = names.set(names.of_feature(state.cookie), sealed(auth, state), lifetime)
    response.headers.append("set-cookie", cookie)
    return url


async def _session_of(request: Request, auth: Auth, state: State) -> Authentication:
    """The session that has begun it. A browser in which somebody else has signed in meanwhile is refused:
    what they have at the provider is not for this account."""
    authentication = await flows.session_of(auth, state)
    if authenticates_by_cookie(request):
        here = await authenticate_cookies(request, auth, allow_ended=False)
        if here.session_id != authentication.session_id:
            raise AuthError(SocialError.SOCIAL_EXPIRED)
    return authentication


def _out(identity: Identity) -> IdentityOut:
    return IdentityOut(**keeping.shown(identity))
