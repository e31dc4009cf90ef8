"""Identities on the pages: begun by links, as browsers hold the redirect that answers a form against
`form-action`, and every refusal of a provider is a page with a way on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import Form, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import BaseModel

from ...auth import Auth
from ...dependencies import CurrentAuth, EnrollingAuthentication
from ...errors import AuthError, ErrorCode
from ...flows.authentication import Authentication, is_recent, require_recent_login
from ...http.addresses import wanted
from ...http.browsers import is_browser
from ...http.rates import rate_limited
from ...lookup import auth_of
from ...routes.ids import id_from
from ...routes.pages.forms import problem_of
from ...routes.pages.rendering import go_to, see_other
from ...routes.pages.route import PageRoute, back_to
from ...routes.pages.security import show_security
from ...routes.pages.sign_in import confirm_page
from ...routes.router import AuthRouter
from ...schemas import Text, TextId
from ...security.csrf import is_form_token, make_form_token
from ...security.keys import key_set
from . import keeping
from .app_providers import label_of, provider_named, providers_of
from .callback_routes import SIGNED_OUT, refused_there, section
from .models import Identity
from .names import SocialError
from .providers import Provider
from .routes import begin_for
from .states import Purpose

TAGS: Final = ["account pages"]


class LeadingRoute(PageRoute):
    """A link that leads away to a provider. No form may lead on to it: what comes first leads back to the
    section, where the link is pressed again."""

    def refusal(self, request: Request, error: AuthError) -> Response:
        """Where to put it right, or the page that says so."""
        if not is_browser(request):
            return super().refusal(request, error)
        purpose: Purpose = "link" if request.url.path.rstrip("/").endswith("/connect") else "reauthenticate"
        return refused_there(auth_of(request), request, error, wanted(request), purpose)


router = AuthRouter(
    prefix="/account/security/identities", tags=[*TAGS], route_class=PageRoute, include_in_schema=False
)

leading = AuthRouter(
    prefix="/account/security/identities",
    tags=[*TAGS],
    route_class=LeadingRoute,
    include_in_schema=False,
    dependencies=[rate_limited("social_start")],
)


class OwnForm(BaseModel):
    """An identity of the user, which the form names."""

    identity: Text = ""


# What leads away, and comes back


@leading.get("/{provider}/connect")
async def connect_page(
    auth: CurrentAuth,
    request: Request,
    authentication: EnrollingAuthentication,
    provider: TextId,
    token: str = "",
    next: str = "",
) -> Response:
    """Sends the browser to the provider, to connect an account there. Only for a link of our own pages, and
    this session: another site that leads here could have signed the browser in there, as somebody else."""
    _check_link(auth, authentication, provider, token)
    require_recent_login(auth, authentication)
    return await _lead_away(auth, request, authentication, provider, next, "link")


@leading.get("/{provider}/confirm")
async def confirm_at_provider(
    auth: CurrentAuth,
    request: Request,
    authentication: EnrollingAuthentication,
    provider: TextId,
    token: str = "",
    next: str = "",
) -> Response:
    """Sends the browser to the provider, to sign in there once more."""
    _check_link(auth, authentication, provider, token)
    if provider_named(auth, provider).issuer is None:
        raise AuthError(SocialError.PROVIDER_UNKNOWN)
    return await _lead_away(auth, request, authentication, provider, next, "reauthenticate")


@router.get("")
async def identities_page(
    auth: CurrentAuth, request: Request, authentication: EnrollingAuthentication, refused: str = ""
) -> Response:
    """The section of the security page, with what was wrong with the last try."""
    error = _said(auth, refused)
    if error is None:
        return see_other(auth, request, section(auth, request), next=wanted(request))
    return await show_security(auth, request, authentication, error, "identities")


@router.get("/unconfirmed")
async def unconfirmed_page(
    auth: CurrentAuth,
    request: Request,
    authentication: EnrollingAuthentication,
    refused: str = "",
    next: str = "",
) -> Response:
    """The page that confirms, with what was wrong with the last try at a provider."""
    error = _said(auth, refused)
    problem = None if error is None else problem_of(error)
    return await confirm_page(auth, request, authentication, next, problem)


async def _lead_away(
    auth: Auth,
    request: Request,
    authentication: Authentication,
    provider: str,
    next: str,
    purpose: Purpose,
) -> RedirectResponse:
    response = go_to("/")
    url = await begin_for(auth, request, response, authentication, provider, next, purpose)
    response.headers["location"] = url
    return response


def _said(auth: Auth, code: str) -> AuthError | None:
    """A refusal in the address: one of the app, and none that another page has to answer."""
    found = auth.features.errors.get(code)
    elsewhere = found is None or found in SIGNED_OUT or found is ErrorCode.REAUTHENTICATION_REQUIRED
    return None if elsewhere or found is None else AuthError(found)


# Links that only our own pages have


def link_token(auth: Auth, authentication: Authentication, provider: str) -> str:
    """What a link has that this session may follow to this provider."""
    return make_form_token(*_binding(auth, authentication, provider))


def _check_link(auth: Auth, authentication: Authentication, provider: str, token: str) -> None:
    if not is_form_token(*_binding(auth, authentication, provider), token):
        raise AuthError(ErrorCode.CSRF_REFUSED)


def _binding(auth: Auth, authentication: Authentication, provider: str) -> tuple[bytes, str]:
    return key_set(auth.settings).derive("social links"), f"{authentication.session_id} {provider}"


# The section of the security page


for path in ("keep", "disconnect"):
    router.get(f"/{path}", name=f"back_from_identity_{path}")(back_to("security"))


@router.post("/keep")
async def keep_identity_form(
    auth: CurrentAuth,
    request: Request,
    authentication: EnrollingAuthentication,
    form: Annotated[OwnForm, Form()],
) -> Response:
    """Lets an identity sign in again."""
    try:
        await keeping.keep(auth, authentication, id_from(form.identity, SocialError.IDENTITY_NOT_FOUND))
    except AuthError as error:
        return await show_security(auth, request, authentication, error, "identities")
    return _changed(auth, request, "identity_kept")


@router.post("/disconnect")
async def disconnect_form(
    auth: CurrentAuth,
    request: Request,
    authentication: EnrollingAuthentication,
    form: Annotated[OwnForm, Form()],
) -> Response:
    """Disconnects an identity, but not the last way in."""
    try:
        await keeping.remove(auth, authentication, id_from(form.identity, SocialError.IDENTITY_NOT_FOUND))
    except AuthError as error:
        return await show_security(auth, request, authentication, error, "identities")
    return _changed(auth, request, "identity_removed")


def _changed(auth: Auth, request: Request, notice: str) -> Response:
    return see_other(auth, request, section(auth, request), notice=notice, next=wanted(request))


# What the pages show


async def on_the_security_page(auth: Auth, authentication: Authentication) -> Mapping[str, Any]:
    """The identities of the user, and the providers where one can be connected."""
    providers = providers_of(auth)
    own = [keeping.shown(each) for each in await keeping.identities_of(auth, authentication.user.id)]
    there, held = {each["provider"] for each in own}, any(each["held"] for each in own)
    return {
        "identities": [{**each, "label": label_of(auth, each["provider"])} for each in own],
        "held": held,
        "recent": is_recent(auth, authentication),
        "others": [
            _link(auth, authentication, provider)
            for provider in providers.values()
            if provider.name not in there
        ],
        "may_go_on": not held if own else None,
    }


async def on_the_confirming_page(auth: Auth, authentication: Authentication) -> Mapping[str, Any]:
    """The providers that say when their user has signed in, where this user is known."""
    user, providers = authentication.user, providers_of(auth)
    own = await keeping.identities_of(auth, user.id)
    there = {each.provider for each in own if each.held_since is None}
    return {
        "confirms": [
            _link(auth, authentication, provider)
            for provider in providers.values()
            if provider.name in there
            and provider.issuer is not None
            and (provider.trusted_for_two_factor or not user.has_second_factor)
        ]
    }


async def held_notice(auth: Auth, authentication: Authentication) -> str | None:
    """What there is to say after a sign-in: that identities wait for their owner's word."""
    held = auth.tables.of(Identity).filter(user_id=authentication.user.id, held_since__not_isnull=True)
    return "identities_held" if await held.exists() else None


def _link(auth: Auth, authentication: Authentication, provider: Provider) -> dict[str, str]:
    token = link_token(auth, authentication, provider.name)
    return {"name": provider.name, "label": provider.label, "token": token}
