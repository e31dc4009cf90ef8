"""A limit that holds for everybody, also where rate limits are off: for what writes a row before anybody has
signed in."""

from __future__ import annotations

from ...auth import Auth
from ...errors import AuthError
from ...events import EventKind, Observation, Outcome, origin
from ...flows.throttle import Key, count
from ...security.proxies import counted_network
from ...security.throttle import Quota


async def count_network(auth: Auth, what: str, quota: Quota) -> None:
    """Counts a request by the network that it comes from. Raises `AuthError(THROTTLED)` with the seconds to
    wait."""
    key = Key.named(auth, f"oauth {what}", counted_network(origin.get()().address))
    try:
        await count(auth, key, quota)
    except AuthError as error:
        await auth.events.emit(EventKind.RATE_LIMIT, Outcome.FAILURE, Observation(), reason=error.code.code)
        raise
