"""What clients read first: where the server is (RFC 8414), and which server a resource trusts (RFC 9728)."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from fastapi import Response
from fastapi.responses import JSONResponse

from ...auth import Auth
from ...dependencies import CurrentAuth
from ...http.responses import documented
from ...routes.router import AuthRouter
from .models import AUTHORIZATION_CODE, CLIENT_CREDENTIALS, DEVICE_CODE
from .openid import CLAIMS, CLAIMS_OF_SCOPES, all_scopes_of, sign_in_scopes
from .protocol_routes import opened, preflight
from .resources import all_resources, issuer_of, metadata_path, resources_of, scopes_of
from .schemas import AuthorizationServer, OpenIdProvider, ProtectedResource
from .settings import OAuthSettings

SERVER_PATH = "/.well-known/oauth-authorization-server"
OPENID_PATH = "/.well-known/openid-configuration"
SECRET_METHODS = ("client_secret_basic", "client_secret_post")
CLIENT_METHODS = ("none", *SECRET_METHODS)


def metadata_router(auth: Auth) -> AuthRouter:
    """The routes for the resources of this app, at the root of its host. An app that is served below a path
    has them where that is in the address (RFC 8414 section 3.1), and where the path was taken off."""
    router = AuthRouter(tags=["oauth"], at_root=True, about="The OAuth 2.1 authorization server.")
    place = urlsplit(issuer_of(auth.settings)).path
    router.get(
        SERVER_PATH,
        operation_id="auth_oauth_authorization_server",
        summary="The metadata of the server",
        responses=documented(),
        response_model_exclude_none=True,
    )(authorization_server)
    if place:
        below = f"{SERVER_PATH}{place}"
        router.get(
            below, name="oauth_server_below", include_in_schema=False, response_model_exclude_none=True
        )(authorization_server)
    paths = {SERVER_PATH, f"{SERVER_PATH}{place}"}
    for path, resource in resources_of(auth).items():
        described = _describing(path)
        for address in sorted({metadata_path(resource), metadata_path(path.rstrip("/"))}):
            router.get(address, name=f"resource {address}", include_in_schema=False)(described)
            paths.add(address)
    if sign_in_scopes(auth):
        for address in sorted({OPENID_PATH, f"{OPENID_PATH}{place}", f"{place}{OPENID_PATH}"}):
            router.get(
                address, name=f"provider {address}", include_in_schema=False, response_model_exclude_none=True
            )(openid_provider)
            paths.add(address)
    for address in sorted(paths):
        router.options(address, name=f"preflight {address}", include_in_schema=False)(preflight)
    return router


async def authorization_server(auth: CurrentAuth, response: Response) -> AuthorizationServer:
    """Where the routes of the server are, and what they take (RFC 8414)."""
    _published(response)
    return AuthorizationServer(**_server(auth))


async def openid_provider(auth: CurrentAuth, response: Response) -> OpenIdProvider:
    """The same for apps that users sign in to (OpenID Connect Discovery 1.0)."""
    _published(response)
    settings = auth.settings
    return OpenIdProvider(
        **_server(auth),
        jwks_uri=settings.public_url(".well-known/jwks.json"),
        userinfo_endpoint=settings.public_url("oauth/userinfo"),
        end_session_endpoint=settings.public_url("oauth/logout"),
        subject_types_supported=["public"],
        id_token_signing_alg_values_supported=[settings.jwt_algorithm],
        claims_supported=[*CLAIMS, *CLAIMS_OF_SCOPES],
        prompt_values_supported=["none", "login", "consent", "select_account"],
    )


def _published(response: Response) -> None:
    opened(response)
    response.headers["Cache-Control"] = "public, max-age=300"


def _server(auth: Auth) -> dict[str, Any]:
    settings = auth.settings
    registers = auth.features.settings_of(OAuthSettings).oauth_registration
    return {
        "issuer": issuer_of(settings),
        "authorization_endpoint": settings.public_url("oauth/authorize"),
        "token_endpoint": settings.public_url("oauth/token"),
        "revocation_endpoint": settings.public_url("oauth/revoke"),
        "introspection_endpoint": settings.public_url("oauth/introspect"),
        "registration_endpoint": settings.public_url("oauth/register") if registers else None,
        "device_authorization_endpoint": settings.public_url("oauth/device_authorization"),
        "scopes_supported": [*all_scopes_of(auth)],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": [AUTHORIZATION_CODE, "refresh_token", DEVICE_CODE, CLIENT_CREDENTIALS],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": [*CLIENT_METHODS],
        "revocation_endpoint_auth_methods_supported": [*CLIENT_METHODS],
        "introspection_endpoint_auth_methods_supported": [*SECRET_METHODS],
        "protected_resources": [*all_resources(auth)],
    }


def _describing(path: str) -> Any:
    async def protected_resource(auth: CurrentAuth) -> Response:
        """Which server gives tokens for this resource."""
        said = ProtectedResource(
            resource=resources_of(auth)[path],
            authorization_servers=[issuer_of(auth.settings)],
            scopes_supported=[*scopes_of(auth)],
            bearer_methods_supported=["header"],
            resource_name=auth.settings.app_name,
        )
        response = JSONResponse(said.model_dump(), headers={"Cache-Control": "public, max-age=300"})
        return opened(response)

    return protected_resource
