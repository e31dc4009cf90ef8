"""Sessions in which an administrator acts as a user: what ends them beside what ends that user's sessions."""

from __future__ import annotations

from typing import Final

from tortoise.expressions import Q

from ...models.lifetimes import BEGUN_CHANGES, AccessEnded, End, Reach
from ...models.session import Session

ACCESS_ENDED: Final = AccessEnded(
    Session,
    {**BEGUN_CHANGES, End.RIGHTS_TAKEN: Reach.ALL},
    user="impersonated_by",
    session="begun_in",
    where=Q(revoked_at=None),
    change=lambda now: {"revoked_at": now},
)
"""By what happens to the administrator and the session that they were begun in."""
