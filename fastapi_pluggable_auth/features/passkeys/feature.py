"""What passkeys bring."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter

from ...auth import Auth
from ...flows.authentication import Authentication
from ...models import AbstractUser
from ...security.hashing import is_usable
from ..feature import Answer, Feature, SignUp, Slot
from .credentials import Assertion, Registration
from .factor import PasskeyFactor
from .keeping import passkeys_of, shown
from .models import ACCESS_ENDED, Passkey
from .names import FACTOR, PasskeyError, PasskeyEventKind, PasskeyMail, PasskeySettings

# `flows` is imported where it is used: it needs fido2, which is an extra, and scripts know of this feature
# also where it is not installed.

PASSKEY: Final = PasskeyFactor()

TEMPLATES: Final = Path(__file__).parent / "templates"


def _routers(auth: Auth) -> Iterable[APIRouter]:
    from . import flows, routes

    flows.relying_party(auth)
    yield routes.router
    yield routes.own
    yield routes.well_known
    if "administration" in auth.features:
        from . import admin_routes

        yield admin_routes.router
    if auth.pages:
        from . import pages

        yield from (pages.router, pages.sign_up, pages.verify, pages.well_known)


async def _check_first(auth: Auth, email: str, credential: Registration, browser: str | None) -> Any:
    from . import flows

    return await flows.check_first(auth, email, credential, browser)


async def _second_factor_options(auth: Auth, user: AbstractUser) -> Mapping[str, Any] | None:
    if not await PASSKEY.enrolled(auth, user):
        return None
    from . import flows

    return await flows.second_factor_options(auth, user)


async def _ways_in(auth: Auth, user: AbstractUser) -> int:
    own = auth.tables.of(Passkey).filter(user_id=user.id)
    return await own.filter(verifies_user=True, held_since=None).count()


async def _exported(auth: Auth, authentication: Authentication) -> list[dict[str, Any]]:
    return [shown(passkey) for passkey in await passkeys_of(auth, authentication.user.id)]


async def _on_the_security_page(auth: Auth, authentication: Authentication) -> Mapping[str, Any]:
    from . import pages

    return await pages.on_the_security_page(auth, authentication)


async def _held_notice(auth: Auth, authentication: Authentication) -> str | None:
    from . import pages

    return await pages.held_notice(auth, authentication)


def _has_some(auth: Auth, user: AbstractUser) -> bool:
    return FACTOR in user.second_factors


def _has_password(auth: Auth, user: AbstractUser) -> bool:
    return is_usable(user.hashed_password)


SLOTS: Final = (
    Slot(place="sign_in", template="passkey_sign_in.html", autofill="webauthn"),
    Slot(place="sign_up", template="passkey_sign_up.html"),
    Slot(place="code", template="passkey_code.html", shown=_has_some),
    Slot(place="confirm_password", template="passkey_confirm.html", shown=_has_some),
    Slot(place="verify", template="passkey_verify.html", shown=_has_some),
    Slot(place="security", template="passkeys_security.html", values=_on_the_security_page),
    Slot(place="navigation", template="passkey_upgrade.html", shown=_has_password),
)


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
            factors=(PASSKEY,),
            answers={"passkey": Answer(type=Assertion, options=_second_factor_options)},
            phishing_resistant=frozenset((FACTOR,)),
            sign_up=SignUp(field="credential", type=Registration, factor=FACTOR, check=_check_first),
            ways_in=_ways_in,
            routers=_routers,
            slots=SLOTS,
            templates=TEMPLATES,
            scripts=("passkeys.js", "page_passkeys.js"),
            detour=_held_notice,
            words=Path(__file__).parent / "words",
        )
