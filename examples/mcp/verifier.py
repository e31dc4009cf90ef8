"""What the MCP server asks the app: what a token is good for."""

from mcp.server.auth.provider import AccessToken

from fastapi_pluggable_auth import Auth
from fastapi_pluggable_auth.features import verify_oauth_token


class Verifier:
    def __init__(self, auth: Auth, path: str) -> None:
        self.auth, self.path = auth, path

    async def verify_token(self, token: str) -> AccessToken | None:
        access = await verify_oauth_token(self.auth, token, self.path)
        if access is None:
            return None
        return AccessToken(
            token=token,
            client_id=access.client_id,
            scopes=[*access.scopes],
            expires_at=int(access.expires_at.timestamp()),
            resource=access.resource,
            subject=str(access.user.id),
        )
