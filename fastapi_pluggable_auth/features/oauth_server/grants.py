"""What users have allowed applications: seen and taken back."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from ...auth import Auth
from ...flows.authentication import Authentication
from ...models import AbstractUser
from .models import AbstractOAuthClient, AbstractOAuthGrant


@dataclass(frozen=True, slots=True)
class Application:
    """A client with all that a user has allowed it, the newest first."""

    client: AbstractOAuthClient
    grants: list[AbstractOAuthGrant]


async def applications_of(auth: Auth, user_id: UUID) -> list[Application]:
    """Those of a user that have not expired, the last authorized first."""
    raise NotImplementedError


async def remove_application(auth: Auth, authentication: Authentication, application_id: UUID) -> None:
    """Takes back all that the user has allowed the client with this `id`, at once. Raises `AuthError`:
    APPLICATION_NOT_FOUND, IMPERSONATION_FORBIDDEN."""
    raise NotImplementedError


async def remove_for(auth: Auth, user: AbstractUser, application_id: UUID) -> bool:
    """The same by an administrator or a command; False where there is none."""
    raise NotImplementedError
