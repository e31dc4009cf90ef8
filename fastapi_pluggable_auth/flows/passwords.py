"""Whether a password is a user's, while other requests may replace its hash by a better one."""

from __future__ import annotations

from datetime import datetime, timedelta

from ..auth import Auth
from ..models import AbstractUser
from ..security.plaintext import Plaintext
from ..security.rehashes import rehash_note


async def check_password(auth: Auth, user: AbstractUser, password: Plaintext) -> bool:
    """Whether the password is the user's. An outdated hash is replaced, but never one that has changed since:
    then the password is checked against that. Leaves the password. Raises `AuthError(OVERLOADED)`."""
    while True:
        known = user.hashed_password
        verification = await auth.hasher.verify(password.copy(), known)
        new = verification.replacement
        if new is None or not user.is_active:
            return verification.ok
        note = rehash_note(new, user.password_id)
        unchanged = auth.tables.user.filter(id=user.id, hashed_password=known)
        if await unchanged.update(hashed_password=new, rehash_note=note):
            user.hashed_password, user.rehash_note = new, note
            return True
        if await is_rehashed(auth, user) or user.hashed_password == known:
            return True  # by a sign-in beside this one; or the account is gone, as whatever comes next finds


def changed_now(auth: Auth, user: AbstractUser) -> datetime:
    """The moment of a change of the password that is written now: just after the one before, where the clock
    was set back, as old links must stay dead."""
    now, previous = auth.clock(), user.password_changed_at
    return now if previous is None else max(now, previous + timedelta(microseconds=1))


def columns_of_new(auth: Auth, user: AbstractUser, hashed: str) -> dict[str, object]:
    """What a new password of the user changes, from its hash."""
    return {
        "hashed_password": hashed,
        "password_reset_required": False,
        "password_changed_at": changed_now(auth, user),
    }


async def is_rehashed(auth: Auth, user: AbstractUser) -> bool:
    """Whether another sign-in has replaced the hash by one of the same password since the user was read: what
    was refused for the hash may then be tried again. Reads the hash again."""
    hashed, password = user.hashed_password, user.password_id
    found = await auth.tables.user.filter(id=user.id).values_list("hashed_password", "rehash_note")
    for user.hashed_password, user.rehash_note in found:
        pass
    return user.hashed_password != hashed and user.password_id == password
