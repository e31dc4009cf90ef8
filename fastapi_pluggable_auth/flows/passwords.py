"""Whether a password is a user's, while other requests may replace its hash by a better one."""

from __future__ import annotations

from ..auth import Auth
from ..models import AbstractUser
from ..security.plaintext import Plaintext


async def check_password(auth: Auth, user: AbstractUser, password: Plaintext) -> bool:
    """Whether the password is the user's. An outdated hash is replaced, but never one that has changed since:
    then the password is checked against that. Leaves the password. Raises `AuthError(OVERLOADED)`."""
    while True:
        known = user.hashed_password
        verification = await auth.hasher.verify(password.copy(), known)
        if not verification.ok or verification.replacement is None or not user.is_active:
            return verification.ok
        unchanged = auth.tables.user.filter(id=user.id, hashed_password=known)
        if await unchanged.update(hashed_password=verification.replacement):
            user.hashed_password = verification.replacement
            return True
        if not await _has_another_hash(auth, user):
            return True  # of an account that is gone, which whatever comes next finds out


async def still_fits(auth: Auth, user: AbstractUser, password: Plaintext) -> bool:
    """Whether the user has another hash of the same password by now, as a sign-in beside this one stored it:
    what was refused for the hash may then be tried again. Raises `AuthError(OVERLOADED)`."""
    return await _has_another_hash(auth, user) and await check_password(auth, user, password)


async def _has_another_hash(auth: Auth, user: AbstractUser) -> bool:
    found = await auth.tables.user.filter(id=user.id).values_list("hashed_password", flat=True)
    known, user.hashed_password = user.hashed_password, str(found[0]) if found else user.hashed_password
    return user.hashed_password != known
