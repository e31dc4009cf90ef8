"""The addresses of pages, as the browser sees them."""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import quote, urlencode

from fastapi import Request
from starlette.requests import HTTPConnection
from starlette.routing import Match

from .._frameworks import routes_of
from ..auth import Auth
from ..lookup import included
from ..security.csrf import SAFE_METHODS
from ..security.redirects import safe_next


def path_of(request: Request) -> str:
    """The path of the request as the browser sees it, percent-encoded."""
    root, path = request.scope.get("root_path", ""), request.scope["path"]
    return quote(path if path == root or path.startswith(f"{root}/") else root + path)


def path_in_app(request: HTTPConnection) -> str:
    """The path of the request in the app that has the `Auth`, decoded, wherever that is mounted."""
    path: str = request.scope["path"]
    place = included(request).root_path
    return path.removeprefix(place) if path == place or path.startswith(f"{place}/") else path


def account_path(request: Request, auth: Auth, page: str) -> str:
    """The path of an account page, as the browser sees it: a page of the app that has the `Auth`."""
    return own_path(request, auth, f"account/{page}")


def own_path(request: Request, auth: Auth, path: str) -> str:
    """The same of any route of the library. Never one that begins like the address of another host: the place
    of a mount may be what the client has sent."""
    path = f"{included(request).root_path}{auth.settings.route_prefix}/{path}"
    return f"/{quote(path.lstrip('/'))}"


def with_query(address: str, **values: str | None) -> str:
    """The address with these values in its query, where they are not empty."""
    query = urlencode({name: value for name, value in values.items() if value})
    page, sharp, section = address.partition("#")
    return f"{page}{'&' if '?' in page else '?'}{query}{sharp}{section}" if query else address


def home(request: Request, auth: Auth) -> str | None:
    """Where pages lead on to: `HOME_URL`, a path of which is one of the app that has the `Auth`. Unless set,
    the profile page in an app that answers nothing at `/`, or None where there are no pages."""
    url, chosen = auth.settings.home_url, "home_url" in auth.settings.model_fields_set
    found = included(request)
    if not (chosen or _answers_root(found.app, len(routes_of(found.app)))):
        return account_path(request, auth, "profile") if auth.pages else None
    # The place of a mount may be what the client has sent: as in `account_path`, never another host.
    place = quote(found.root_path.strip("/"))
    return f"/{place}{url}" if place and url.startswith("/") else url


def onward(request: Request, auth: Auth, next: str | None) -> str:
    """Where a page with this `next` leads on to, whatever it was sent."""
    return safe_next(next) or home(request, auth) or account_path(request, auth, "profile")


@lru_cache(maxsize=16)
def _answers_root(app: object, routes: int) -> bool:
    """Looked up once, as it takes microseconds a route; `routes`, their number, is there to look again."""
    scope = {"type": "http", "method": "GET", "path": "/", "root_path": "", "headers": []}
    return any(route.matches(dict(scope))[0] is Match.FULL for route in routes_of(app))


def way_back(request: Request) -> str | None:
    """The path and query of a request that something else has to come before; None for one that changes
    something."""
    return address_of(request) if request.method in SAFE_METHODS else None


def wanted(request: Request) -> str | None:
    """The `next` in the address of a page or of a form."""
    return safe_next(request.query_params.get("next"))


def way_on(request: Request) -> str | None:
    """Where a request leads that something else has to come before: back to its page, or for one that changes
    something on to the `next` of its form."""
    return way_back(request) or wanted(request)


def address_of(request: Request) -> str | None:
    """The path and query of any request: of a form, to come back to the page that it is on."""
    path, query = path_of(request), request.scope["query_string"].decode("latin-1")
    return safe_next(f"{path}?{query}" if query else path)


def sign_in_page(request: Request, auth: Auth) -> str:
    """The address of the sign-in page, which leads back to this one."""
    page = auth.settings.sign_in_url or account_path(request, auth, "sign-in")
    return with_query(page, next=way_on(request))


def enrolment_page(request: Request, auth: Auth) -> str:
    """The address of the page that sets up two-factor, which leads back to this one."""
    return with_query(account_path(request, auth, "security"), next=way_back(request))


def step_up_page(request: Request, auth: Auth) -> str:
    """The address of the page that asks for a factor once more, which leads back to this one."""
    return with_query(account_path(request, auth, "confirm-password"), next=way_back(request))
