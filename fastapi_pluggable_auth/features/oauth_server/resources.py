"""What an app lets clients reach: its address as an issuer, its resources and its scopes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import urlsplit

from ...auth import Auth
from ...config import AuthSettings
from ...config.urls import origin_of
from ...errors import AuthError
from .names import FEATURE
from .protocol import ProtocolError
from .redirects import redirect_problem

_ALSO: Final = frozenset({"offline_access"})
"""Scopes that some clients ask for to get a refresh token, which all clients get."""


def issuer_of(settings: AuthSettings) -> str:
    """The issuer (RFC 8414 section 2): the public base URL without a slash at its end."""
    return settings.public_base_url.rstrip("/")


def resources_of(auth: Auth) -> dict[str, str]:
    """The absolute address of each resource of this app (RFC 8707 section 2), by its path."""
    issuer, named = issuer_of(auth.settings), auth.features.options_of(FEATURE)
    return {path: f"{issuer}{path.rstrip('/')}" for path in named if path.startswith("/")}


def services_of(auth: Auth) -> tuple[str, ...]:
    """The addresses of the other services that tokens are for."""
    return tuple(each for each in auth.features.options_of(FEATURE) if not each.startswith("/"))


def all_resources(auth: Auth) -> tuple[str, ...]:
    """The absolute addresses of both."""
    return (*resources_of(auth).values(), *services_of(auth))


def require_services(auth: Auth) -> None:
    """Raises `ValueError` where tokens for another service could not be told from those of this app, or not
    be checked there."""
    settings = auth.settings
    for service in services_of(auth):
        if settings.jwt_algorithm.startswith("HS"):
            raise ValueError(
                f"{service} checks tokens by public keys, and JWT_ALGORITHM is {settings.jwt_algorithm}: set "
                "ES256, and a JWT_PRIVATE_KEY."
            )
        if _canonical(service) == _canonical(settings.audience):
            raise ValueError(
                f"{service} is the audience of the app's own sessions: set another JWT_AUDIENCE."
            )
        if origin_of(service) == origin_of(issuer_of(settings)):
            raise ValueError(f"{service} is of this app: write its path.")


def service_problem(address: str) -> str | None:
    """Why another service can't be named so, None where it can: by an https address, or by an `http` one of
    this machine (RFC 8707 section 2, RFC 9728 section 1.2)."""
    problem = redirect_problem(address)
    if problem is None and not address.startswith(("https://", "http://")):
        problem = "is not https"
    if problem is None and ("?" in address or _canonical(address) != address):
        problem = f"has a query, a slash at its end or a spelling of its own: write {_canonical(address)!r}"
    return problem


def scopes_of(auth: Auth) -> Mapping[str, str]:
    """What clients may be allowed, each with a sentence for users: those of the feature, and without any
    those of personal access tokens."""
    return auth.features.scopes_of(FEATURE) or auth.features.scopes_of("personal_tokens")


def scopes_in(asked: str) -> frozenset[str]:
    """Those that a client names, but for what it need not ask for."""
    return frozenset(asked.split()) - _ALSO


def resource_at(auth: Auth, path: str) -> str | None:
    """The resource that a path of the app belongs to, the closest one; None where it belongs to none."""
    around = [each for each in resources_of(auth) if _is_within(each, path)]
    return resources_of(auth)[max(around, key=len)] if around else None


def covers(auth: Auth, resource: str, path: str) -> bool:
    """Whether a path of the app belongs to the resource with this absolute address, and to none inside it."""
    return resource_at(auth, path) == resource


def resources_asked(auth: Auth, asked: Iterable[str], allowed: Iterable[str]) -> frozenset[str]:
    """The absolute addresses of the resources that a client asks for. Where it names none, all of this app
    that are allowed, and where none of those is, all. A slash at the end, and the case of the host, do not
    count. Raises `AuthError(INVALID_TARGET)`."""
    known = {_canonical(each): each for each in allowed}
    wanted = [_canonical(each) for each in asked]
    if not all(each in known for each in wanted):
        raise AuthError(ProtocolError.INVALID_TARGET)
    if wanted:
        return frozenset(known[each] for each in wanted)
    return frozenset(known.values()) - {*services_of(auth)} or frozenset(known.values())


def resources_of_token(auth: Auth, asked: Iterable[str], allowed: Iterable[str]) -> frozenset[str]:
    """The same for one access token: it is for this app, or for one other service, which can use it nowhere
    else (RFC 9700 section 2.3). Raises `AuthError(INVALID_TARGET)`."""
    found = resources_asked(auth, asked, allowed)
    if len(found) > 1 and not found.isdisjoint(services_of(auth)):
        raise AuthError(ProtocolError.INVALID_TARGET)
    return found


def metadata_path(resource: str) -> str:
    """The path of the metadata of a resource, from the root of the host (RFC 9728 section 3.1)."""
    return f"/.well-known/oauth-protected-resource{urlsplit(resource).path}"


def _is_within(resource: str, path: str) -> bool:
    place = resource.rstrip("/")
    return path == place or path.startswith(f"{place}/")


def _canonical(address: str) -> str:
    try:
        parts = urlsplit(address)
        rest = address[len(f"{parts.scheme}://{parts.netloc}") :]
        return f"{origin_of(address)}{rest}".rstrip("/") if "@" not in parts.netloc else ""
    except ValueError:  # of its port
        return ""
