"""What social login brings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fastapi import APIRouter

from ...auth import Auth
from ...flows.authentication import Authentication
from ...models import AbstractUser
from ..feature import Feature, Slot
from .app_providers import credentials_of, providers_of
from .keeping import identities_of, shown
from .linking import LINKING
from .models import ACCESS_ENDED, Identity
from .names import FEATURE, SocialError, SocialEventKind, SocialMail
from .providers import Provider
from .schemas import SocialAddressCode, SocialExchange, SocialToken
from .settings import SocialSettings, settings_for

# `flows` is imported where it is used: it needs joserfc, which is an extra, and scripts know of this feature
# also where it is not installed.


def _routers(auth: Auth) -> Iterable[APIRouter]:
    from . import address_routes, routes

    for provider in providers_of(auth).values():
        credentials_of(auth, provider)
    yield routes.router
    yield routes.callbacks
    yield routes.own
    yield address_routes.router
    if "administration" in auth.features:
        from . import admin_routes

        yield admin_routes.router
    if auth.pages:
        from . import address_pages, pages

        yield from (address_pages.router, pages.leading, pages.router)


async def _ways_in(auth: Auth, user: AbstractUser) -> int:
    own = auth.tables.of(Identity).filter(user_id=user.id, provider__in=[*providers_of(auth)])
    return await own.filter(held_since=None).count()


async def _exported(auth: Auth, authentication: Authentication) -> list[dict[str, Any]]:
    return [shown(each) for each in await identities_of(auth, authentication.user.id)]


async def _on_the_security_page(auth: Auth, authentication: Authentication) -> Mapping[str, Any]:
    from . import pages

    return await pages.on_the_security_page(auth, authentication)


async def _on_the_confirming_page(auth: Auth, authentication: Authentication) -> Mapping[str, Any]:
    from . import pages

    return await pages.on_the_confirming_page(auth, authentication)


async def _held_notice(auth: Auth, authentication: Authentication) -> str | None:
    from . import pages

    return await pages.held_notice(auth, authentication)


def _slots(providers: Iterable[Provider]) -> tuple[Slot, ...]:
    shown = [{"name": each.name, "label": each.label, "signup": each.signup} for each in providers]
    beginning = {"providers": [each for each in shown if each["signup"]]}
    return (
        Slot(place="sign_in", template="social_sign_in.html", values={"providers": shown}),
        Slot(place="sign_up", template="social_sign_in.html", values=beginning),
        Slot(place="confirm_password", template="identities_confirm.html", values=_on_the_confirming_page),
        Slot(place="security", template="identities_security.html", values=_on_the_security_page),
    )


class SocialLogin(Feature):
    """Signing in at others: `SocialLogin(Google(), GitHub(), Oidc("acme", issuer=...))`. Needs the extra
    `social`. Without `settings`, those of the environment count, with AUTH_<NAME>_CLIENT_ID and
    AUTH_<NAME>_CLIENT_SECRET for each provider.

    Raises `ValueError` for two providers of one name; where the app starts, `ImportError` without the extra,
    and `ValueError` for a provider without a client id.
    """

    def __init__(self, *providers: Provider, settings: SocialSettings | None = None) -> None:
        by_name = {provider.name: provider for provider in providers}
        if len({name.lower() for name in by_name}) < len(providers):  # whose settings have one name
            raise ValueError("Two providers have the same name: give one of them another `name`.")
        super().__init__(
            name=FEATURE,
            settings=settings or settings_for(providers),
            errors=SocialError,
            events=SocialEventKind,
            mails=SocialMail,
            tables=(Identity,),
            access_ended=ACCESS_ENDED,
            export={"identities": _exported},
            rates={"social_start": "30/minute", "social_callback": "30/minute"},
            ways_in=_ways_in,
            answering=(SocialExchange, SocialToken, SocialAddressCode),
            completion=LINKING,
            options=by_name,
            routers=_routers,
            slots=_slots(providers),
            templates=Path(__file__).parent / "templates",
            detour=_held_notice,
            words=Path(__file__).parent / "words",
        )
