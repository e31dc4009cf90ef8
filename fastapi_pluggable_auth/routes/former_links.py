"""The addresses of links that 0.1 mailed: after its base URL, which ends with a slash, it put another one."""

from __future__ import annotations

from fastapi import Request, Response
from fastapi.responses import RedirectResponse

from ..http.addresses import path_of
from .router import AuthRouter

router = AuthRouter(prefix="//auth", tags=["former links"], include_in_schema=False)


@router.get("/verify/{token}", name="former_verify_link")
@router.get("/reset-password/{token}", name="former_reset_link")
async def former_link(request: Request, token: str) -> Response:
    """Leads to the page of the link."""
    path = path_of(request).replace("//auth/", "/auth/")
    return RedirectResponse(f"/{path.lstrip('/')}", 303, headers={"Referrer-Policy": "no-referrer"})
