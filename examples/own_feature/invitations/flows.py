"""What is done with a code: it is made, looked at before a signup, and spent in it."""

import hashlib
import secrets
from datetime import timedelta

from fastapi_pluggable_auth import Auth, AuthError
from fastapi_pluggable_auth.features import Authentication, exact, notify, observed
from fastapi_pluggable_auth.hooks import BeforeSignup, SigningUp
from fastapi_pluggable_auth.models import User

from .names import InvitationError, InvitationEventKind, InvitationMail, InvitationSettings
from .tables import Invitation


async def invite(auth: Auth, authentication: Authentication) -> str:
    """Makes a code. Only its digest is kept, so that nobody reads it in the database."""
    code = secrets.token_urlsafe(12)
    days = auth.features.settings_of(InvitationSettings).invitation_days
    async with observed(auth, InvitationEventKind.INVITATION, authentication):
        await auth.tables.of(Invitation).create(
            inviter_id=authentication.user.id,
            digest=_digest(code),
            expires_at=auth.clock() + timedelta(days=days),
        )
    return code


async def require_code(auth: Auth, event: BeforeSignup) -> None:
    """Refuses a signup before anything is looked up: the answer tells nothing of accounts."""
    await _find(auth, event.extra.get("invitation", ""))


async def spend_code(auth: Auth, event: SigningUp[User]) -> None:
    """In the transaction of the signup: of two with the same code, one gets an account."""
    if "invitation" not in event.extra:  # an administrator makes the account
        return
    invitation = await _find(auth, event.extra["invitation"])
    if not await auth.tables.of(Invitation).filter(id=invitation.id).delete():
        raise AuthError(InvitationError.INVITATION_REFUSED)
    await notify(auth, InvitationMail.INVITATION_USED, invitation.inviter, guest=event.user.email)


async def count(auth: Auth, authentication: Authentication) -> dict[str, int]:
    """What the security page shows."""
    own = auth.tables.of(Invitation).filter(inviter_id=authentication.user.id)
    return {"count": await own.filter(expires_at__gt=auth.clock()).count()}


async def _find(auth: Auth, code: str) -> Invitation:
    found = await exact(auth.tables.of(Invitation).all().select_related("inviter"), digest=_digest(code))
    if found is None or found.expires_at <= auth.clock():
        raise AuthError(InvitationError.INVITATION_REFUSED)
    return found


def _digest(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()
