"""Who calls, by an access token that the accounts service has signed: its public keys are all that is needed,
no database of accounts and no shared secret."""

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Final

import httpx
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

logger = logging.getLogger(__name__)

ALGORITHM: Final = "ES256"
TYPES: Final = {"at+jwt", "application/at+jwt"}
"""What an access token is in its header, whatever the case (RFC 9068 section 4)."""
LEEWAY: Final = 30
"""Seconds that the clocks of two servers may differ."""
FRESH: Final = 300.0
"""Seconds after which the keys are fetched again: how long a withdrawn key is still believed."""
PAUSE: Final = 1.0
"""Seconds between two fetches at least, so that made-up key ids cause no flood."""
STALE: Final = 24 * 3600.0
"""Seconds that the keys serve while the accounts service is down."""
LONGEST_TOKEN: Final = 8192


class Refused(HTTPException):
    """401: no access token, or none that is good here. Why is nobody's business."""

    def __init__(self) -> None:
        super().__init__(401, "The access token is missing or not valid.", {"WWW-Authenticate": "Bearer"})


class AccountsUnavailable(HTTPException):
    """503: the accounts service has to be asked and does not answer."""

    def __init__(self) -> None:
        super().__init__(503, "The accounts service does not answer.", {"Retry-After": f"{PAUSE:.0f}"})


class PublicKeys:
    """The keys of the accounts service, by `kid`. An unknown one has them fetched again, once for all that
    wait, and at most once in `PAUSE` seconds."""

    def __init__(
        self, url: str, client: httpx.AsyncClient, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._url, self._client, self._clock = url, client, clock
        self._keys: dict[str, ECKey] = {}
        self._fetched_at = self._tried_at = float("-inf")
        self._lock = asyncio.Lock()

    async def get(self, key_id: str) -> ECKey | None:
        """The key of this id, if there is one. Raises `AccountsUnavailable`."""
        key = self._keys.get(key_id)
        fetching = self._lock.locked()
        if (key is None or self._age > FRESH) and not (key and fetching):
            await self._fetch()
            key = self._keys.get(key_id)
        if self._age > STALE:
            raise AccountsUnavailable
        return key

    @property
    def _age(self) -> float:
        return self._clock() - self._fetched_at

    async def _fetch(self) -> None:
        async with self._lock:
            if self._clock() - self._tried_at < PAUSE:
                return
            try:
                answer = await self._client.get(self._url)
                found = answer.raise_for_status().json()["keys"]
                self._keys = {key["kid"]: ECKey.import_key(key) for key in found}
                self._fetched_at = self._clock()
            except (httpx.HTTPError, JoseError, ValueError, KeyError, TypeError):
                logger.warning("The keys of the accounts service cannot be fetched.", exc_info=True)
            finally:
                self._tried_at = self._clock()


class TokenVerifier:
    """Checks what a token is for, its signature under the one algorithm, and the claims: who signed, for
    whom, how long. It takes tokens that users have themselves or, with `of_clients`, those that were given to
    OAuth clients: a `client_id` tells them apart."""

    def __init__(self, keys: PublicKeys, issuer: str, audience: str, *, of_clients: bool = False) -> None:
        self._keys = keys
        self._audience = audience
        self._of_clients = of_clients
        self._claims = jwt.JWTClaimsRegistry(
            leeway=LEEWAY,
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": audience},
            exp={"essential": True},
            sub={"essential": True},
        )

    async def verify(self, token: str) -> Mapping[str, Any]:
        """The claims of a good access token. Raises `Refused` and
        `AccountsUnavailable`."""
        try:
            if len(token) > LONGEST_TOKEN:
                raise Refused
            header = jws.extract_compact(token.encode()).headers()
            key_id = header.get("kid")
            if header.get("alg") != ALGORITHM or not isinstance(key_id, str):
                raise Refused
            if str(header.get("typ")).lower() not in TYPES:  # refresh tokens have another
                raise Refused
            key = await self._keys.get(key_id)  # never one that the token itself brings
            if key is None:
                raise Refused
            claims = jwt.decode(token, key, algorithms=[ALGORITHM]).claims
            self._claims.validate(claims)
            # One that is for others too is for nobody: they could use it here.
            if claims["aud"] != self._audience or ("client_id" in claims) is not self._of_clients:
                raise Refused
        except (JoseError, ValueError, RecursionError) as error:
            raise Refused from error
        return claims


@dataclass(frozen=True)
class Caller:
    """The user who calls, and the token that says so."""

    user_id: str
    token: str


@asynccontextmanager
async def verifying(app: FastAPI) -> AsyncIterator[None]:
    """The lifespan of a service: `ACCOUNTS_URL` is where it reaches the accounts service;
    `AUTH_JWT_ISSUER` and `AUTH_JWT_AUDIENCE` are as there."""
    async with httpx.AsyncClient(base_url=os.environ["ACCOUNTS_URL"], timeout=3) as accounts:
        keys = PublicKeys("/.well-known/jwks.json", accounts)
        app.state.verifier = TokenVerifier(
            keys, os.environ["AUTH_JWT_ISSUER"], os.environ["AUTH_JWT_AUDIENCE"]
        )
        app.state.accounts = accounts
        yield


Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))]


async def caller(request: Request, credentials: Credentials) -> Caller:
    """For most routes: the token alone. It sees no logout until the token expires."""
    if credentials is None:
        raise Refused
    claims = await request.app.state.verifier.verify(credentials.credentials)
    return Caller(claims["sub"], credentials.credentials)


async def live_caller(request: Request, caller: Annotated[Caller, Depends(caller)]) -> Caller:
    """For routes that matter more: asks the accounts service too, which knows of ended sessions."""
    try:
        headers = {"Authorization": f"Bearer {caller.token}"}
        answer = await request.app.state.accounts.get("/auth/me", headers=headers)
    except httpx.HTTPError as error:
        raise AccountsUnavailable from error
    if answer.status_code in {401, 403}:
        raise Refused
    if answer.status_code != 200:
        raise AccountsUnavailable
    return caller


SignedIn = Annotated[Caller, Depends(caller)]
StillSignedIn = Annotated[Caller, Depends(live_caller)]
