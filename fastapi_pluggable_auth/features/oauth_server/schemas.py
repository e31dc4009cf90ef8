"""Bodies of the routes for applications and their clients."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, Strict

from ...schemas import Body, Flag, OwnName, Schema, Text, proposed
from ...security.names import PATTERN as NAME
from .models import AUTHORIZATION_CODE

ClientName = Annotated[OwnName, Field(examples=["Notes for the desk"])]
RedirectUri = Annotated[Text, Field(max_length=2048, examples=["https://app.example.com/callback"])]
Scope = Annotated[str, Strict(), Field(pattern=f"^{NAME}$", max_length=255, examples=["notes:read"])]
GrantType = Annotated[
    Literal["authorization_code", "urn:ietf:params:oauth:grant-type:device_code", "client_credentials"],
    Field(examples=[AUTHORIZATION_CODE]),
]


class ApplicationOut(Schema):
    """An application that the user has allowed something, in one or more `installations`. Times are UTC:
    `last_used_at` is when it last came for tokens, `expires_at` when it has to ask the user anew, unless it
    does so again before."""

    id: UUID
    client_id: str
    name: str
    uri: str | None
    scopes: list[str]
    resources: list[str]
    installations: int
    authorized_at: datetime
    last_used_at: datetime
    expires_at: datetime


class OAuthClientCreate(Body):
    """A client to register. One that is `confidential` gets a secret; without `scopes` it may ask for all.
    Redirect URIs are for the grant type `authorization_code`."""

    model_config = proposed(name="Notes for the desk", redirect_uris=["https://app.example.com/callback"])

    name: ClientName
    redirect_uris: Annotated[list[RedirectUri], Field(max_length=20, default_factory=list)]
    post_logout_redirect_uris: Annotated[list[RedirectUri], Field(max_length=20, default_factory=list)]
    grant_types: Annotated[
        list[GrantType], Field(min_length=1, max_length=3, default_factory=lambda: [AUTHORIZATION_CODE])
    ]
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=100)] | None = None
    confidential: Flag = False


class OAuthClientOut(Schema):
    """A client. `origin` is `operator` for one that was registered here, `document` for one whose id is the
    address of its description, and `registered` for one that has registered itself; null as `scopes` are
    all. Times are UTC."""

    id: UUID
    client_id: str
    name: str
    uri: str | None
    redirect_uris: list[str]
    post_logout_redirect_uris: list[str]
    grant_types: list[str]
    scopes: list[str] | None
    confidential: bool
    origin: str
    disabled: bool
    created_at: datetime
    last_used_at: datetime | None


class NewOAuthClient(OAuthClientOut):
    """A client with a new secret, which is shown once; null for one that has none."""

    client_secret: str | None


class OAuthTokens(Schema):
    """What a client gets (RFC 6749 section 5.1, OpenID Connect Core section 3.1.3.3). `expires_in` is in
    seconds. One that acts for itself gets no refresh token (RFC 6749 section 4.4.3)."""

    access_token: str
    token_type: str = "Bearer"  # noqa: S105
    expires_in: int
    refresh_token: str | None = None
    scope: str
    id_token: str | None = None


class RegisteredClient(Schema):
    """What a client that registers itself is told (RFC 7591 section 3.2.1, RFC 7592 section 3)."""

    client_id: str
    client_id_issued_at: int
    client_secret: str | None = None
    client_secret_expires_at: int | None = None
    registration_client_uri: str
    registration_access_token: str
    client_name: str
    client_uri: str | None
    redirect_uris: list[str]
    post_logout_redirect_uris: list[str]
    grant_types: list[str]
    response_types: list[str]
    token_endpoint_auth_method: str
    scope: str


class DeviceAuthorization(Schema):
    """The codes of a device and its user (RFC 8628 section 3.2). `expires_in` and `interval` are in
    seconds."""

    device_code: str
    user_code: str
    verification_uri: str
    verification_uri_complete: str
    expires_in: int
    interval: int


class AuthorizationServer(Schema):
    """The metadata of the server (RFC 8414 section 2)."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    revocation_endpoint: str
    registration_endpoint: str | None = None
    device_authorization_endpoint: str
    introspection_endpoint: str
    scopes_supported: list[str]
    response_types_supported: list[str]
    response_modes_supported: list[str]
    grant_types_supported: list[str]
    token_endpoint_auth_methods_supported: list[str]
    revocation_endpoint_auth_methods_supported: list[str]
    introspection_endpoint_auth_methods_supported: list[str]
    code_challenge_methods_supported: list[str]
    authorization_response_iss_parameter_supported: bool = True
    client_id_metadata_document_supported: bool = True
    protected_resources: list[str]


class OpenIdProvider(AuthorizationServer):
    """The same with what OpenID Connect Discovery 1.0 section 3 has beside it."""

    jwks_uri: str
    userinfo_endpoint: str
    end_session_endpoint: str
    subject_types_supported: list[str]
    id_token_signing_alg_values_supported: list[str]
    claims_supported: list[str]
    prompt_values_supported: list[str]
    claims_parameter_supported: bool = False
    request_parameter_supported: bool = False
    request_uri_parameter_supported: bool = False


class ProtectedResource(Schema):
    """The metadata of a resource (RFC 9728 section 2)."""

    resource: str
    authorization_servers: list[str]
    scopes_supported: list[str]
    bearer_methods_supported: list[str]
    resource_name: str
