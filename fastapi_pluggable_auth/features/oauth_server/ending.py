"""The end of a grant whose tokens two have."""

from __future__ import annotations

from uuid import UUID

from ...auth import Auth, autonomous
from ...events import Observation, Outcome
from ...flows.notices import notify
from ...models import AbstractUser, exact
from .models import OAuthClient, OAuthGrant
from .names import OAuthEventKind, OAuthMail


async def end_stolen(auth: Auth, grant_id: UUID, user: AbstractUser) -> None:
    """Ends a grant with all its tokens, and tells the owner; committed before the refusal is raised, as a
    rollback would keep the thief in (RFC 9700 section 4.14.2)."""
    if await _end(auth, grant_id, user):
        await auth.events.emit(OAuthEventKind.OAUTH_REUSE, Outcome.FAILURE, Observation(user.id))


@autonomous
async def _end(auth: Auth, grant_id: UUID, user: AbstractUser) -> bool:
    grants = auth.tables.of(OAuthGrant)
    grant = await exact(grants.all(), id=grant_id)
    if grant is None or not await grants.filter(id=grant_id).delete():
        return False
    client = await exact(auth.tables.of(OAuthClient).all(), id=grant.client_id)
    await notify(auth, OAuthMail.OAUTH_REUSE, user, name="" if client is None else client.name)
    return True
