"""Devices that an account knows: guesses made elsewhere do not delay the owner on them, and those that are
trusted spare their user the second factor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from ..auth import Auth, autonomous
from ..errors import AuthError, ErrorCode
from ..events import EventKind, Observation, origin
from ..models import AbstractDevice, AbstractUser, exact, matching
from ..security.devices import DEVICE, DEVICE_LIFETIME, device_digest, generate_device
from .authentication import Authentication, observed, require_write

MAXIMUM_DEVICES: Final = 10
"""How many an account knows; a further one takes the place of the oldest."""

NEVER: Final = timedelta(0)


@dataclass(frozen=True, slots=True)
class Device:
    """What a client that wants to be known shows: the value that it was given, None where it has none yet.
    One that is to be trusted gets a `trust` after a second factor."""

    value: str | None = field(default=None, repr=False)
    trust: bool = False


@dataclass(frozen=True, slots=True)
class TrustedDevice:
    """A device in the place of a second factor (`RightAnswer`)."""

    id: UUID
    trusted_at: datetime
    factor: str = DEVICE
    unchanged: Mapping[str, object] = field(default_factory=dict)
    changes: Mapping[str, Any] = field(default_factory=dict)

    async def spend(self, auth: Auth, user: AbstractUser) -> bool:
        """Whether it still is trusted, now that the account is locked."""
        same = {"id": self.id, "user_id": user.id, "trusted_at": self.trusted_at}
        return await auth.tables.device.filter(**same).exists()

    async def report(self, auth: Auth, observation: Observation) -> None:
        """The login has its event."""


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """A device as its owner sees it."""

    device: AbstractDevice
    trusted_until: datetime | None
    session_id: UUID | None
    current_session: UUID | None

    @property
    def current(self) -> bool:
        """Whether the session that asks was seen on it last."""
        return self.session_id is not None and self.session_id == self.current_session

    def shown(self) -> dict[str, Any]:
        """What its owner sees of it."""
        names = ("id", "user_agent", "created_at", "last_used_at", "expires_at")
        seen = {name: getattr(self.device, name) for name in names}
        return {**seen, "trusted_until": self.trusted_until, "current": self.current}


def may_trust(auth: Auth, user: AbstractUser) -> bool:
    """Whether this user may have devices that are trusted."""
    asked = auth.trust_device
    return auth.settings.trusted_device_ttl > NEVER and (asked is None or asked(user))


async def trusted_device(auth: Auth, user: AbstractUser, device: Device | None) -> TrustedDevice | None:
    """The device, where this user has it trusted, and not too long ago."""
    if device is None or device.value is None or not may_trust(auth, user):
        return None
    found = await _known(auth, user, device.value)
    if found is None or found.trusted_at is None:
        return None
    ends = found.trusted_at + auth.settings.trusted_device_ttl
    return TrustedDevice(found.id, found.trusted_at) if auth.clock() < ends else None


async def known_device(auth: Auth, user: AbstractUser | None, device: Device | None) -> UUID | None:
    """The id of the device where this account knows it; no account knows the device of another."""
    if device is None or device.value is None:
        return None
    found = await _known(auth, user, device.value)
    return None if found is None else found.id


async def _known(auth: Auth, user: AbstractUser | None, value: str) -> AbstractDevice | None:
    found = await exact(auth.tables.device.all(), digest=device_digest(value))
    if found is None or user is None or found.user_id != user.id:
        return None
    return found if auth.clock() < found.expires_at else None


async def remember_device(
    auth: Auth,
    user_id: UUID,
    device: Device,
    *,
    known: UUID | None = None,
    session_id: UUID | None = None,
    trust: bool = False,
) -> str:
    """Knows the device from now on, in this session, and returns its value: a new one unless it was known, as
    anybody can plant one. With `trust` its trust begins now; else it stays as it is. Belongs inside the
    transaction of a login, which has locked the account."""
    now, devices = auth.clock(), auth.tables.device
    seen: dict[str, Any] = {
        "session_id": session_id,
        "user_agent": origin.get()().user_agent,
        "expires_at": now + DEVICE_LIFETIME,
        "last_used_at": now,
        **({"trusted_at": now} if trust else {}),
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


async def list_devices(auth: Auth, authentication: Authentication) -> list[DeviceInfo]:
    """The devices that the user who asks is known on, the latest used first."""
    user, now = authentication.user, auth.clock()
    found = await auth.tables.device.filter(user_id=user.id).order_by("-last_used_at", "id")
    lifetime = auth.settings.trusted_device_ttl if may_trust(auth, user) else NEVER
    return [
        DeviceInfo(
            device, _ends(device.trusted_at, lifetime, now), device.session_id, authentication.session_id
        )
        for device in matching(found, user_id=user.id)
        if now < device.expires_at
    ]


async def forget_own_device(auth: Auth, authentication: Authentication, device_id: UUID) -> None:
    """Knows a device of the user no more, and trusts it no more; its session goes on. Raises `AuthError`:
    DEVICE_NOT_FOUND, IMPERSONATION_FORBIDDEN."""
    async with observed(auth, EventKind.DEVICE_FORGOTTEN, authentication):
        require_write(auth, authentication)
        if not await auth.tables.device.filter(id=device_id, user_id=authentication.user.id).delete():
            raise AuthError(ErrorCode.DEVICE_NOT_FOUND)


def _ends(trusted_at: datetime | None, lifetime: timedelta, now: datetime) -> datetime | None:
    ends = None if trusted_at is None else trusted_at + lifetime
    return ends if ends is not None and now < ends else None


async def forget_device(auth: Auth, device_id: UUID) -> None:
    """The device is unknown from now on, whatever becomes of the request."""
    await _forget(auth, device_id)


@autonomous
async def _forget(auth: Auth, device_id: UUID) -> int:
    return await auth.tables.device.filter(id=device_id).delete()
