"""Acting as a user, in a session that names the administrator behind it (RFC 8693 section 1.1)."""

from __future__ import annotations

from uuid import UUID

from tortoise.expressions import F

from ...auth import Auth, transactional
from ...errors import AuthError, ErrorCode
from ...flows.acting import may_act_as
from ...flows.session_tokens import TokenSet
from ...flows.sessions import start_impersonation
from ...models import AbstractUser
from ...security.jwt import Transport
from .flows import AdministrationError, AdministrationEventKind, acting_on


async def impersonate(
    auth: Auth,
    administrator: AbstractUser,
    user_id: UUID,
    *,
    session_id: UUID | None = None,
    transport: Transport = Transport.BEARER,
) -> TokenSet:
    """Starts a session of the user in which the administrator acts. It ends after `impersonation_max_age`,
    with the administrator's own `session_id`, and where the user gains rights that the administrator lacks,
    or either of them is disabled or deleted.

    Raises `AuthError`: OWN_ACCOUNT, USER_NOT_FOUND, ACCOUNT_DISABLED, and PERMISSION_DENIED where the user is
    a superuser or may do what the administrator may not.
    """
    async with (
        acting_on(auth, administrator, user_id, oneself=False),
        auth.events.observe(AdministrationEventKind.IMPERSONATION, user_id=user_id) as observation,
    ):
        tokens = await _start(auth, administrator.id, user_id, session_id, transport)
        observation.session_id = tokens.session_id
    return tokens


@transactional
async def _start(
    auth: Auth, administrator_id: UUID, user_id: UUID, session_id: UUID | None, transport: Transport
) -> TokenSet:
    """Both accounts are locked before they are looked at: whatever ends such sessions comes before, and this
    fails, or after, and ends this one."""
    users = auth.tables.user
    both = users.filter(id__in=[administrator_id, user_id])
    await both.update(is_active=F("is_active"))
    found = {user.id: user for user in await both}
    administrator, user = found.get(administrator_id), found.get(user_id)
    if user is None:
        raise AuthError(ErrorCode.USER_NOT_FOUND)
    if administrator is None or not administrator.is_active or not may_act_as(auth, administrator, user):
        raise AuthError(ErrorCode.PERMISSION_DENIED)
    if not user.is_active:
        raise AuthError(AdministrationError.ACCOUNT_DISABLED)
    return await start_impersonation(
        auth, user_id, administrator_id, begun_in=session_id, transport=transport
    )
