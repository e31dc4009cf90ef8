"""What passkeys bring."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fastapi import APIRouter

from ...auth import Auth
from ...flows.authentication import Authentication
from ...models import AbstractUser
from ..feature import Feature, SignUp
from .credentials import Assertion, Registration
from .factor import PasskeyFactor
from .keeping import passkeys_of, shown
from .models import ACCESS_ENDED, Passkey
from .names import FACTOR, PasskeyError, PasskeyEventKind, PasskeyMail, PasskeySettings

# `flows` is imported where it is used: it needs fido2, which is an extra, and scripts know of this feature
# also where it is not installed.


def _routers(auth: Auth) -> Iterable[APIRouter]:
    from . import flows, routes

    flows.relying_party(auth)
    yield routes.router
    yield routes.own
    yield routes.well_known
    if "administration" in auth.features:
        from . import admin_routes

        yield admin_routes.router


async def _check_first(auth: Auth, email: str, credential: Registration, browser: str | None) -> Any:
    from . import flows

    return await flows.check_first(auth, email, credential, browser)


async def _ways_in(auth: Auth, user: AbstractUser) -> int:
    own = auth.tables.of(Passkey).filter(user_id=user.id)
    return await own.filter(verifies_user=True).count()


async def _exported(auth: Auth, authentication: Authentication) -> list[dict[str, Any]]:
    return [shown(passkey) for passkey in await passkeys_of(auth, authentication.user.id)]


class Passkeys(Feature):
    """Passkeys (WebAuthn Level 3): signing in and up without a password, and as a second factor. Needs the
    extra `passkeys`. Without `settings`, those of the environment count.

    Where the app starts, raises `ImportError` without the extra, and `ValueError` where the address of the
    app cannot have passkeys."""

    def __init__(self, settings: PasskeySettings | None = None) -> None:
        super().__init__(
            name="passkeys",
            settings=settings or PasskeySettings,
            errors=PasskeyError,
            events=PasskeyEventKind,
            mails=PasskeyMail,
            tables=(Passkey,),
            access_ended=ACCESS_ENDED,
            export={"passkeys": _exported},
            rates={"passkey_options": "60/minute"},
            factors=(PasskeyFactor(),),
            answers={"passkey": Assertion},
            phishing_resistant=frozenset((FACTOR,)),
            sign_up=SignUp(field="credential", type=Registration, check=_check_first),
            ways_in=_ways_in,
            routers=_routers,
            words=Path(__file__).parent / "words",
        )
