"""The data of the user who asks, to take along."""

from __future__ import annotations

from typing import Any, Final

from fastapi import Response
from fastapi.responses import StreamingResponse

from ..auth import Auth
from ..dependencies import CurrentAuth, CurrentAuthentication
from ..errors import ErrorCode
from ..flows.authentication import Authentication
from ..flows.export import export_account
from ..http.demands import RECENT_LOGIN, SIGNED_IN
from ..http.rates import rate_limited
from ..http.responses import documented
from ..models import AbstractUser
from ..schemas import AccountExport, ProfileUpdate, UserCreate, UserOut
from .bodies import own_body
from .router import AuthRouter

router = AuthRouter(prefix="/account", tags=["account"], responses=documented(*SIGNED_IN))

FILE_NAME: Final = "account.json"


@router.get(
    "/export",
    operation_id="account_export",
    summary="Download your data",
    dependencies=[rate_limited("export_account")],
    response_model=AccountExport,
    responses=documented(*RECENT_LOGIN, ErrorCode.RATE_LIMITED),
)
async def export(auth: CurrentAuth, authentication: CurrentAuthentication) -> Response:
    """All that is kept of the user, as a file (GDPR article 20). Needs a recent login."""
    return await exported(auth, authentication)


async def exported(auth: Auth, authentication: Authentication) -> Response:
    """The file. Raises `AuthError` as the flow does."""
    pieces = await export_account(auth, authentication, _profile(auth, authentication.user))
    headers = {"Content-Disposition": f'attachment; filename="{FILE_NAME}"', "Cache-Control": "no-store"}
    return StreamingResponse(pieces, headers=headers, media_type="application/json")


def _profile(auth: Auth, user: AbstractUser) -> dict[str, Any]:
    """The account as the app shows it, and what users fill in themselves."""
    out: type[UserOut] = own_body(UserOut, auth.bodies)
    profile = out.model_validate(user).model_dump(mode="json", by_alias=True)
    for body in (own_body(UserCreate, auth.bodies), own_body(ProfileUpdate, auth.bodies)):
        for name, field in body.model_fields.items():
            column = name in user._meta.fields_db_projection and name not in user._withheld
            if column and field.repr:  # a secret has none
                profile.setdefault(name, getattr(user, name))
    return profile
