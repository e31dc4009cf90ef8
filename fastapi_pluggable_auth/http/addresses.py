"""The addresses of pages, as the browser sees them."""

from __future__ import annotations

from urllib.parse import quote, urlencode

from fastapi import Request

from ..auth import Auth
from ..lookup import included
from ..security.csrf import SAFE_METHODS
from ..security.redirects import safe_next


def path_of(request: Request) -> str:
    """The path of the request as the browser sees it, percent-encoded."""
    root, path = request.scope.get("root_path", ""), request.scope["path"]
    return quote(path if path == root or path.startswith(f"{root}/") else root + path)


def account_path(request: Request, auth: Auth, page: str) -> str:
    """The path of an account page, as the browser sees it: a page of the app that has the `Auth`. Never one
    that begins like the address of another host: the place of a mount may be what the client has sent."""
    path = f"{included(request).root_path}{auth.settings.route_prefix}/account/{page}"
    return f"/{quote(path.lstrip('/'))}"


def sign_in_page(request: Request, auth: Auth) -> str:
    """The address of the sign-in page, which leads back to this one."""
    path = path_of(request)
    page = auth.settings.sign_in_url or account_path(request, auth, "sign-in")
    query = request.scope["query_string"].decode("latin-1")
    back = safe_next(f"{path}?{query}" if query else path)
    if back is None or request.method not in SAFE_METHODS:
        return page
    return f"{page}{'&' if '?' in page else '?'}{urlencode({'next': back})}"
