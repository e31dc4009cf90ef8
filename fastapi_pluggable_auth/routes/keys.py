"""The public keys, for services that check access tokens by themselves."""

from __future__ import annotations

from fastapi import Response

from ..dependencies import CurrentAuth
from ..http.responses import documented
from ..schemas import PublicKeys
from ..security.keys import key_set
from .router import AuthRouter

router = AuthRouter(tags=["auth"])


@router.get(
    "/.well-known/jwks.json", operation_id="auth_public_keys", summary="Public keys", responses=documented()
)
async def public_keys(auth: CurrentAuth, response: Response) -> PublicKeys:
    """The keys that verify access tokens (RFC 7517); none while a shared secret signs them. Pages of any
    origin may read them."""
    response.headers["Cache-Control"] = "public, max-age=300"
    response.headers["Access-Control-Allow-Origin"] = "*"
    return PublicKeys(keys=[dict(key) for key in key_set(auth.settings).public])
