"""Sealing the two-factor secrets that are plain, bound to no user, or sealed with an earlier key."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from ...auth import Auth
from ...models import every, stored_totp_secret
from ...security.encryption import SEALED, UnreadableSecretError

BATCH: Final = 500


@dataclass(slots=True)
class Sealing:
    """What became of some secrets. Those are unreadable that no configured key opens for their user."""

    sealed: int = 0
    up_to_date: int = 0
    unreadable: list[UUID] = field(default_factory=list)


async def count_secrets(auth: Auth) -> tuple[int, int]:
    """How many two-factor secrets are sealed, and how many are plain."""
    secrets = every(auth.tables.user).filter(totp_secret__not_isnull=True)
    sealed = await secrets.filter(totp_secret__startswith=SEALED).count()
    return sealed, await secrets.count() - sealed


async def seal_secrets(auth: Auth, *, batch: int = BATCH) -> AsyncIterator[Sealing]:
    """Seals every two-factor secret with the present key, for its user. Safe beside a running app: a secret
    that changes meanwhile stays as it is. After an interruption, what is sealed is passed over."""
    users, last = every(auth.tables.user), None
    while True:
        some = users.filter(totp_secret__not_isnull=True)
        if last is not None:
            some = some.filter(id__gt=last)
        found = await some.order_by("id").limit(batch)
        if not found:
            return
        done = Sealing()
        for user in found:
            stored = stored_totp_secret(user) or ""
            try:
                opened = auth.totp_box.open(stored, user.id)
            except UnreadableSecretError:
                done.unreadable.append(user.id)
                continue
            if not opened.outdated:
                done.up_to_date += 1
                continue
            unchanged = users.filter(id=user.id, totp_secret=stored)
            done.sealed += await unchanged.update(totp_secret=auth.totp_box.seal(opened.secret, user.id))
        last = found[-1].id
        yield done
