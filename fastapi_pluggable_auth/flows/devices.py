"""Devices that an account knows: guesses made elsewhere do not delay the owner on them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from ..auth import Auth, autonomous
from ..events import origin
from ..models import AbstractUser, exact
from ..security.devices import DEVICE_LIFETIME, device_digest, generate_device

MAXIMUM_DEVICES: Final = 10
"""How many an account knows; a further one takes the place of the oldest."""


@dataclass(frozen=True, slots=True)
class Device:
    """What a client that wants to be known shows: the value that it was given, None where it has none yet."""

    value: str | None = field(default=None, repr=False)


async def known_device(auth: Auth, user: AbstractUser | None, device: Device | None) -> UUID | None:
    """The id of the device where this account knows it; no account knows the device of another."""
    if device is None or device.value is None:
        return None
    found = await exact(auth.tables.device.all(), digest=device_digest(device.value))
    if found is None or user is None or found.user_id != user.id:
        return None
    return found.id if auth.clock() < found.expires_at else None


async def remember_device(
    auth: Auth, user_id: UUID, device: Device, *, known: UUID | None = None, session_id: UUID | None = None
) -> str:
    """Knows the device from now on, in this session, and returns its value: a new one unless it was known, as
    anybody can plant one. Belongs inside the transaction of a login, which has locked the account."""
    now, devices = auth.clock(), auth.tables.device
    seen: dict[str, Any] = {
        "session_id": session_id,
        "user_agent": origin.get()().user_agent,
        "expires_at": now + DEVICE_LIFETIME,
        "last_used_at": now,
    }
    if known is not None and device.value is not None:
        await devices.filter(id=known, user_id=user_id).update(**seen)
        return device.value
    value = generate_device()
    await devices.create(user_id=user_id, digest=device_digest(value), created_at=now, **seen)
    own = devices.filter(user_id=user_id).order_by("-last_used_at", "-created_at")
    if surplus := (await own.values_list("id", flat=True))[MAXIMUM_DEVICES:]:
        await devices.filter(id__in=list(surplus)).delete()
    return value


async def forget_device(auth: Auth, device_id: UUID) -> None:
    """The device is unknown from now on, whatever becomes of the request."""
    await _forget(auth, device_id)


@autonomous
async def _forget(auth: Auth, device_id: UUID) -> int:
    return await auth.tables.device.filter(id=device_id).delete()
