"""Applications and their clients for administrators, where an app has administration too."""

from __future__ import annotations

from typing import Annotated, Final
from uuid import UUID

from fastapi import Depends

from ...auth import Auth
from ...authorization import require
from ...dependencies import CurrentAuth
from ...errors import AuthError, ErrorCode
from ...http.demands import RECENT_LOGIN
from ...http.responses import documented, merged_responses
from ...models import User, exact
from ..administration.flows import acting_on
from ..administration.routes import REFUSALS, WRITING, Reader, Writer, admin_router
from ..administration.users import find_user
from . import clients, grants
from .models import AbstractOAuthClient, OAuthClient
from .names import OAuthError
from .schemas import ApplicationOut, NewOAuthClient, OAuthClientCreate, OAuthClientOut

Operator = Annotated[User, Depends(require(superuser=True, recent=True))]
"""A client that is registered here has consent remembered: it is for those who run the app."""

CHANGING: Final = documented(
    OAuthError.OAUTH_CLIENT_NOT_FOUND, ErrorCode.VALIDATION_ERROR, *REFUSALS, *RECENT_LOGIN
)

router = admin_router()


@router.get("/oauth/clients", operation_id="admin_list_oauth_clients", summary="List the OAuth clients")
async def list_clients(auth: CurrentAuth, administrator: Reader) -> list[OAuthClientOut]:
    """The clients that are registered here, those known by the address of their document, and those that
    have registered themselves."""
    return [_shown(client) for client in await clients.list_clients(auth)]


@router.post(
    "/oauth/clients",
    operation_id="admin_create_oauth_client",
    summary="Register an OAuth client",
    status_code=201,
    responses=documented(
        OAuthError.OAUTH_CLIENT_REFUSED, ErrorCode.VALIDATION_ERROR, *REFUSALS, *RECENT_LOGIN
    ),
)
async def create_client(
    auth: CurrentAuth, administrator: Operator, body: OAuthClientCreate
) -> NewOAuthClient:
    """Register a client, for superusers. Its secret, where it has one, is in this answer only."""
    return _new(
        await clients.create_client(
            auth,
            body.name,
            body.redirect_uris,
            body.scopes,
            confidential=body.confidential,
            grant_types=body.grant_types,
            post_logout_redirect_uris=body.post_logout_redirect_uris,
        )
    )


@router.post(
    "/oauth/clients/{client_id}/rotate-secret",
    operation_id="admin_rotate_oauth_client_secret",
    summary="Give an OAuth client another secret",
    responses=merged_responses(CHANGING, documented(OAuthError.OAUTH_CLIENT_REFUSED)),
)
async def rotate_client_secret(auth: CurrentAuth, administrator: Operator, client_id: UUID) -> NewOAuthClient:
    """Give a client another secret, for superusers; the old one is dead at once."""
    client = await _client_of(auth, client_id)
    return _new(await clients.rotate_secret(auth, client.client_id))


@router.post(
    "/oauth/clients/{client_id}/disable",
    operation_id="admin_disable_oauth_client",
    summary="Refuse an OAuth client",
    responses=CHANGING,
)
async def disable_client(auth: CurrentAuth, administrator: Operator, client_id: UUID) -> OAuthClientOut:
    """Refuse a client, also one with a document, for superusers. What users have allowed it ends at once."""
    client = await _client_of(auth, client_id)
    return _shown(await clients.disable_client(auth, client.client_id))


@router.post(
    "/oauth/clients/{client_id}/enable",
    operation_id="admin_enable_oauth_client",
    summary="Allow an OAuth client again",
    responses=CHANGING,
)
async def enable_client(auth: CurrentAuth, administrator: Operator, client_id: UUID) -> OAuthClientOut:
    """Let a client ask users again, for superusers; nothing that has ended comes back."""
    client = await _client_of(auth, client_id)
    return _shown(await clients.enable_client(auth, client.client_id))


@router.delete(
    "/oauth/clients/{client_id}",
    operation_id="admin_delete_oauth_client",
    summary="Delete an OAuth client",
    status_code=204,
    responses=CHANGING,
)
async def delete_client(auth: CurrentAuth, administrator: Operator, client_id: UUID) -> None:
    """Delete a client, for superusers, and end at once all that users have allowed it."""
    client = await _client_of(auth, client_id)
    await clients.delete_client(auth, client.client_id)


@router.get(
    "/users/{user_id}/applications",
    operation_id="admin_list_applications",
    summary="List a user's applications",
    responses=documented(ErrorCode.USER_NOT_FOUND, ErrorCode.VALIDATION_ERROR),
)
async def list_applications_of_user(
    auth: CurrentAuth, administrator: Reader, user_id: UUID
) -> list[ApplicationOut]:
    """The applications that may act for an account, as its owner sees them."""
    user = await find_user(auth, user_id)
    return [ApplicationOut(**grants.shown(each)) for each in await grants.applications_of(auth, user.id)]


@router.delete(
    "/users/{user_id}/applications/{application_id}",
    operation_id="admin_remove_application",
    summary="Remove a user's application",
    status_code=204,
    responses=merged_responses(WRITING, documented(OAuthError.APPLICATION_NOT_FOUND)),
)
async def remove_application_of_user(
    auth: CurrentAuth, administrator: Writer, user_id: UUID, application_id: UUID
) -> None:
    """End all access of an application to an account, at once."""
    async with acting_on(auth, administrator, user_id) as user:
        if not await grants.remove_for(auth, user, application_id):
            raise AuthError(OAuthError.APPLICATION_NOT_FOUND)


async def _client_of(auth: Auth, client_id: UUID) -> AbstractOAuthClient:
    client = await exact(auth.tables.of(OAuthClient).all(), id=client_id)
    if client is None:
        raise AuthError(OAuthError.OAUTH_CLIENT_NOT_FOUND)
    return client


def _shown(client: AbstractOAuthClient) -> OAuthClientOut:
    return OAuthClientOut(**clients.shown(client))


def _new(made: clients.NewClient) -> NewOAuthClient:
    return NewOAuthClient(**_shown(made.client).model_dump(), client_secret=made.secret)
