"""Its routes: a pass is made by its owner, and shows at a door who that is."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta
from typing import Annotated

from fastapi import Depends, Request, Response

from fastapi_pluggable_auth import Auth
from fastapi_pluggable_auth.authorization import require
from fastapi_pluggable_auth.dependencies import CurrentAuth, CurrentAuthentication
from fastapi_pluggable_auth.flows.authentication import Authentication
from fastapi_pluggable_auth.http.rates import rate_limited
from fastapi_pluggable_auth.models import User
from fastapi_pluggable_auth.routes.pages.rendering import see_other
from fastapi_pluggable_auth.routes.pages.route import PageRoute
from fastapi_pluggable_auth.routes.router import AuthRouter

from .models import Pass

LIFETIME = timedelta(days=1)

router = AuthRouter(prefix="/account/passes", tags=["passes"])
pages = AuthRouter(prefix="/account/passes", route_class=PageRoute, include_in_schema=False)


async def make(auth: Auth, authentication: Authentication) -> str:
    """What a device at a door asks with; only its digest is kept."""
    secret = f"pass_{secrets.token_urlsafe(32)}"
    await auth.tables.of(Pass).create(
        user_id=authentication.user.id,
        session_id=authentication.session_id,
        digest=hashlib.sha256(secret.encode()).hexdigest(),
        expires_at=auth.clock() + LIFETIME,
    )
    return secret


@router.post("", status_code=201, dependencies=[rate_limited("make_pass")])
async def make_pass(auth: CurrentAuth, authentication: CurrentAuthentication) -> dict[str, str]:
    """Makes one."""
    return {"pass": await make(auth, authentication)}


@router.get("/owner")
async def owner(user: Annotated[User, Depends(require(scope="doors:open"))]) -> dict[str, str]:
    """Who opens the door."""
    return {"email": user.email}


@pages.post("/form", dependencies=[rate_limited("make_pass")])
async def make_pass_form(
    auth: CurrentAuth, request: Request, authentication: CurrentAuthentication
) -> Response:
    """The same for a browser."""
    await make(auth, authentication)
    return see_other(auth, request, "security")
