"""Volume limits per client."""

from __future__ import annotations

from typing import Any

from fastapi import Depends, Request

from ..auth import Auth
from ..flows.throttle import count_request
from ..lookup import auth_of
from ..security.proxies import counted_network
from .cookies import wants_cookies
from .csrf import check_request
from .origin import origin_of


def rate_limited(rule: str, *, sets_cookies: bool = False) -> Any:
    """A dependency that counts requests to a route by client, where limits are on. Where the route gives a
    browser cookies, it sees to it as well that nobody is signed in by a page that is not the app's. Raises
    `AuthError`, answered as 403 CSRF_REFUSED, and as 429 RATE_LIMITED with `Retry-After`."""

    async def check(request: Request) -> None:
        if sets_cookies and wants_cookies(request):
            await check_request(request)
        await count_by_client(request, auth_of(request), rule)

    return Depends(check)


async def count_by_client(request: Request, auth: Auth, rule: str) -> None:
    """The same for a part of a route."""
    if auth.limiter.rates(rule):
        client = counted_network(origin_of(request, auth).address)
        await count_request(auth, rule, client)
