"""An example whose OAuth clients have their documents on this machine, as no app of a host has them: at the
port `DOCUMENTS_PORT`, by a certificate of `DOCUMENTS_CA`. Copied beside its `app.py`."""

import os
import ssl

from app import app, auth

from fastapi_pluggable_auth.features.oauth_server.documents import Documents
from fastapi_pluggable_auth.security.fetching import Fetcher


async def resolve(host: str, port: int) -> list[tuple[str, int]]:
    return [("127.0.0.1", int(os.environ["DOCUMENTS_PORT"]))]


async def trust() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=os.environ["DOCUMENTS_CA"])


auth.service(Documents).fetcher = Fetcher(resolver=resolve, may_reach=lambda address: True, trust=trust)
__all__ = ["app"]
