"""What it brings to an app."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from tortoise.expressions import Q

from fastapi_pluggable_auth import Auth
from fastapi_pluggable_auth.errors import AuthError, ErrorCode
from fastapi_pluggable_auth.features.feature import Credential, Feature, Slot
from fastapi_pluggable_auth.flows.authentication import Authentication
from fastapi_pluggable_auth.models import ALL_ACCESS, AccessEnded, End, Expired, Reach, exact

from .models import Door, Pass


async def who(auth: Auth, secret: str) -> Authentication:
    """Whom a pass stands for."""
    digest = hashlib.sha256(secret.encode()).hexdigest()
    found = await exact(auth.tables.of(Pass).all().select_related("user"), digest=digest)
    if found is None or found.expires_at <= auth.clock():
        raise AuthError(ErrorCode.INVALID_TOKEN)
    never = datetime.min.replace(tzinfo=UTC)
    return Authentication(found.user, None, never, scopes=frozenset({"doors:open"}))


async def on_the_security_page(auth: Auth, authentication: Authentication) -> dict[str, Any]:
    """How many there are."""
    return {"count": await auth.tables.of(Pass).filter(user_id=authentication.user.id).count()}


def routers(auth: Auth) -> Iterable[APIRouter]:
    """Pages only where there are others."""
    from .routes import pages, router

    return [router, pages] if auth.pages else [router]


PASSES = Feature(
    name="passes",
    tables=(Door, Pass),
    expired=(Expired(Pass, lambda now, _: Q(expires_at__lt=now)),),
    access_ended=(
        AccessEnded(
            Pass,
            {**ALL_ACCESS, End.SESSION: Reach.THESE, End.PASSWORD_CHANGED: Reach.ALL},
            session="session_id",
        ),
    ),
    rates={"make_pass": "3/hour"},
    credentials=(Credential(matches=lambda token: token.startswith("pass_"), authenticate=who),),
    routers=routers,
    slots=(
        Slot(place="sign_in", template="passes_sign_in.html"),
        Slot(place="navigation", template="passes_navigation.html"),
        Slot(place="security", template="passes_security.html", values=on_the_security_page),
    ),
    templates=Path(__file__).parent / "templates",
)
