"""What users have allowed applications: seen and taken back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from ...auth import Auth
from ...errors import AuthError
from ...events import Observation, Outcome
from ...flows.authentication import Authentication, observed, refuse_impersonation
from ...models import AbstractUser, exact, matching
from .models import AbstractOAuthClient, AbstractOAuthGrant, OAuthClient, OAuthGrant
from .names import ApplicationRemoved, OAuthError, OAuthEventKind


@dataclass(frozen=True, slots=True)
class Application:
    """A client with all that a user has allowed it, the newest first."""

    client: AbstractOAuthClient
    grants: list[AbstractOAuthGrant]


async def applications_of(auth: Auth, user_id: UUID) -> list[Application]:
    """Those of a user that have not expired, and that have come for their tokens, the last authorized
    first."""
    live = auth.tables.of(OAuthGrant).filter(
        user_id=user_id, expires_at__gt=auth.clock(), last_used_at__not_isnull=True
    )
    by_client: dict[UUID, list[AbstractOAuthGrant]] = {}
    for grant in matching(await live.order_by("-authorized_at", "-id"), user_id=user_id):
        by_client.setdefault(grant.client_id, []).append(grant)
    if not by_client:
        return []
    clients = {client.id: client for client in await auth.tables.of(OAuthClient).filter(id__in=[*by_client])}
    return [Application(clients[id], grants) for id, grants in by_client.items() if id in clients]


def shown(application: Application) -> dict[str, Any]:
    """What its user sees of it: the sum of its installations."""
    client, grants = application.client, application.grants
    return {
        "id": client.id,
        "client_id": client.client_id,
        "name": client.name,
        "uri": client.client_uri,
        "scopes": sorted({scope for grant in grants for scope in grant.scopes}),
        "resources": sorted({resource for grant in grants for resource in grant.resources}),
        "installations": len(grants),
        "authorized_at": max(grant.authorized_at for grant in grants),
        "last_used_at": max(grant.last_used_at for grant in grants if grant.last_used_at),
        "expires_at": max(grant.expires_at for grant in grants),
    }


async def export_applications(auth: Auth, authentication: Authentication) -> list[Mapping[str, Any]]:
    """The part of what users get with their data."""
    return [shown(each) for each in await applications_of(auth, authentication.user.id)]


async def remove_application(auth: Auth, authentication: Authentication, application_id: UUID) -> None:
    """Takes back all that the user has allowed the client with this `id`, at once. Raises `AuthError`:
    APPLICATION_NOT_FOUND, IMPERSONATION_FORBIDDEN."""
    user = authentication.user
    async with observed(auth, OAuthEventKind.APPLICATION_REMOVED, authentication):
        refuse_impersonation(authentication)
        client = await _remove(auth, user.id, application_id)
        if client is None:
            raise AuthError(OAuthError.APPLICATION_NOT_FOUND)
    await auth.hooks.fire(ApplicationRemoved, user, client.client_id)


async def remove_for(auth: Auth, user: AbstractUser, application_id: UUID) -> bool:
    """The same by an administrator or a command; False where there is none."""
    client = await _remove(auth, user.id, application_id)
    if client is None:
        return False
    await auth.events.emit(OAuthEventKind.APPLICATION_REMOVED, Outcome.SUCCESS, Observation(user.id))
    await auth.hooks.fire(ApplicationRemoved, user, client.client_id)
    return True


async def _remove(auth: Auth, user_id: UUID, application_id: UUID) -> AbstractOAuthClient | None:
    """The client, where the user had allowed it anything; its tokens go with that."""
    client = await exact(auth.tables.of(OAuthClient).all(), id=application_id)
    gone = auth.tables.of(OAuthGrant).filter(user_id=user_id, client_id=application_id)
    return client if client is not None and await gone.delete() else None
