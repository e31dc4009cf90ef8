"""Which OAuth client calls, and for whom, by an access token that accounts has signed for this service (RFC
9068)."""

import os
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from access_tokens import Credentials, PublicKeys, Refused, TokenVerifier
from fastapi import FastAPI, HTTPException, Request


class ScopeLacks(HTTPException):
    """403: the token is good, and not for this."""

    def __init__(self, scope: str) -> None:
        header = f'Bearer error="insufficient_scope", scope="{scope}"'
        super().__init__(403, f"The token lacks the scope {scope}.", {"WWW-Authenticate": header})


@dataclass(frozen=True)
class Grant:
    """The client that calls, and the user in whose name; None where it acts for itself."""

    client_id: str
    user_id: str | None


@asynccontextmanager
async def verifying(app: FastAPI) -> AsyncIterator[None]:
    """The lifespan of a service: `ACCOUNTS_URL` is where it reaches accounts, `AUTH_PUBLIC_BASE_URL` is as
    there, and `BILLING_URL` is the resource that clients ask for."""
    async with httpx.AsyncClient(base_url=os.environ["ACCOUNTS_URL"], timeout=3) as accounts:
        keys = PublicKeys("/.well-known/jwks.json", accounts)
        issuer, audience = os.environ["AUTH_PUBLIC_BASE_URL"], os.environ["BILLING_URL"]
        app.state.verifier = TokenVerifier(keys, issuer, audience, of_clients=True)
        yield


def granted(scope: str) -> Callable[..., Coroutine[Any, Any, Grant]]:
    """A dependency: the grant of a token with this scope."""

    async def dependency(request: Request, credentials: Credentials) -> Grant:
        if credentials is None:
            raise Refused
        claims = await request.app.state.verifier.verify(credentials.credentials)
        client_id, scopes = claims["client_id"], claims.get("scope")
        if not (isinstance(client_id, str) and isinstance(scopes, str)):
            raise Refused
        if scope not in scopes.split(" "):
            raise ScopeLacks(scope)
        return Grant(client_id, None if claims["sub"] == client_id else claims["sub"])

    return dependency
