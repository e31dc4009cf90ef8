"""The ways in that a user has, of which one is always left."""

from __future__ import annotations

from ..auth import Auth
from ..errors import AuthError, ErrorCode
from ..models import AbstractUser, exact
from ..security.hashing import is_usable


async def keep_way_in(auth: Auth, user: AbstractUser) -> None:
    """Raises `AuthError(LAST_WAY_IN)` where none is left: neither a password nor one of a feature. A link by
    mail does not count, as who has lost everything else comes back by it.

    Belongs inside the transaction that has locked the account and taken a way in from it, so that of the last
    two that are removed at once one stays.
    """
    now = await exact(auth.tables.user.all(), id=user.id)
    if now is None or is_usable(now.hashed_password):
        return
    for ways in auth.features.ways_in:
        if await ways(auth, now):
            return
    raise AuthError(ErrorCode.LAST_WAY_IN)
