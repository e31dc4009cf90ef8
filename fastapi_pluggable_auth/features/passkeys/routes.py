"""Signing in with passkeys, and those of the user who asks."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from fastapi import Request, Response

from ...auth import Auth
from ...dependencies import CurrentAuth, EnrollingAuthentication
from ...errors import AuthError, ErrorCode
from ...http.cookies import bind_signup, new_signup_binding, signup_binding, transport_for, wants_cookies
from ...http.demands import RECENT_LOGIN, SIGNED_IN
from ...http.rates import rate_limited
from ...http.responses import documented
from ...routes.core import device_in, session_answer
from ...routes.ids import id_from
from ...routes.router import AuthRouter
from ...schemas import (
    CookieSession,
    DeviceTokenPair,
    Message,
    TextId,
    TokenPair,
    taken,
)
from ...security.plaintext import Plaintext
from . import flows, keeping
from .challenges import Purpose
from .models import Passkey
from .names import PasskeyError, PasskeySettings
from .schemas import (
    LinkPasskey,
    LinkProof,
    PasskeyCreate,
    PasskeyLogin,
    PasskeyOptions,
    PasskeyOut,
    PasskeyProof,
    PasskeySignUpOptions,
    PasskeyUpdate,
    RelatedOrigins,
)

TAG: Final = "passkeys"

MODULE: Final = ("passkeys.js", "passkeys_module.js")
"""The templates that it is made of."""

SHOWN: Final = (
    PasskeyError.PASSKEY_UNKNOWN,
    PasskeyError.PASSKEY_EXPIRED,
    PasskeyError.PASSKEY_REFUSED,
    ErrorCode.VALIDATION_ERROR,
)
"""How a route refuses a passkey."""

router = AuthRouter(prefix="/auth/passkey", tags=[TAG], about="Signing in without a password (WebAuthn).")

own = AuthRouter(
    prefix="/account/passkeys",
    tags=[TAG],
    responses=documented(*SIGNED_IN),
)

well_known = AuthRouter(prefix="/.well-known", tags=[TAG], at_root=True)


def browsers_of(request: Request, auth: Auth) -> Sequence[str]:
    """What a challenge may have been made for: a browser that gets cookies has to be the one that asked for
    it, as another page might sign it in as somebody else."""
    known = signup_binding(request, auth)
    bound = [] if known is None else [known]
    return bound if wants_cookies(request) else [*bound, ""]


def bound_browser(request: Request, response: Response, auth: Auth) -> str:
    """What the challenge for this request is made for: the value of the browser's cookie, which it gets, or
    nothing for other clients."""
    binding = new_signup_binding(request, auth)
    bind_signup(response, auth, binding)
    return binding or ""


@router.post(
    "/options",
    operation_id="auth_passkey_options",
    summary="Begin to sign in with a passkey",
    dependencies=[rate_limited("passkey_options")],
    responses=documented(ErrorCode.RATE_LIMITED),
)
async def passkey_options(auth: CurrentAuth, request: Request, response: Response) -> dict[str, Any]:
    """What `navigator.credentials.get()` needs, the same for everybody, good for five minutes and one
    login (`PublicKeyCredential.parseRequestOptionsFromJSON`)."""
    return flows.request_options(auth, Purpose.SIGN_IN, bound_browser(request, response, auth))


@router.post(
    "/login",
    operation_id="auth_passkey_login",
    summary="Sign in with a passkey",
    dependencies=[rate_limited("login", sets_cookies=True)],
    responses=documented(
        *SHOWN,
        PasskeyError.PASSKEY_HELD,
        ErrorCode.INVALID_CREDENTIALS,
        ErrorCode.EMAIL_NOT_VERIFIED,
        ErrorCode.PASSWORD_RESET_REQUIRED,
        ErrorCode.CSRF_REFUSED,
        ErrorCode.RATE_LIMITED,
    ),
)
async def passkey_login(
    auth: CurrentAuth, request: Request, body: PasskeyLogin
) -> DeviceTokenPair | TokenPair | CookieSession:
    """Start a session with a passkey, which counts as two factors. `device` and `remember` are like those of
    `POST /auth/login`, and so is the answer."""
    device, transport = device_in(request, body), transport_for(request)
    browsers = browsers_of(request, auth)
    tokens = await flows.sign_in(auth, body.credential, browsers, device, transport=transport)
    return session_answer(request, auth, tokens, remember=body.remember)


@router.post(
    "/reauthenticate/options",
    operation_id="auth_passkey_reauthenticate_options",
    summary="Begin to confirm with a passkey",
    responses=documented(*SIGNED_IN),
)
async def passkey_reauthenticate_options(
    auth: CurrentAuth, authentication: EnrollingAuthentication
) -> dict[str, Any]:
    """What `navigator.credentials.get()` needs."""
    return await flows.reauthentication_options(auth, authentication)


@router.post(
    "/reauthenticate",
    operation_id="auth_passkey_reauthenticate",
    summary="Confirm with a passkey",
    dependencies=[rate_limited("reauthenticate")],
    responses=documented(
        *SIGNED_IN,
        *SHOWN,
        PasskeyError.PASSKEY_HELD,
        ErrorCode.REAUTHENTICATION_FAILED,
        ErrorCode.IMPERSONATION_FORBIDDEN,
        ErrorCode.RATE_LIMITED,
    ),
)
async def passkey_reauthenticate(
    auth: CurrentAuth, authentication: EnrollingAuthentication, body: PasskeyProof
) -> Message:
    """Show a passkey once more, so that sensitive changes are allowed again for a while."""
    await flows.reauthenticate(auth, authentication, body.credential)
    return Message(detail="Confirmed.")


@router.post(
    "/sign-up/options",
    operation_id="auth_passkey_sign_up_options",
    summary="Begin to sign up with a passkey",
    dependencies=[rate_limited("signup")],
    responses=documented(ErrorCode.SIGNUP_CLOSED, ErrorCode.VALIDATION_ERROR, ErrorCode.RATE_LIMITED),
)
async def passkey_sign_up_options(
    auth: CurrentAuth, request: Request, response: Response, body: PasskeySignUpOptions
) -> dict[str, Any]:
    """What `navigator.credentials.create()` needs, the same for any address. Send what it gives as
    `credential` to `POST /auth/signup`, in place of the password."""
    return flows.sign_up_options(auth, body.email, bound_browser(request, response, auth))


@router.post(
    "/verify/options",
    operation_id="auth_passkey_verify_options",
    summary="Begin to verify an address with a passkey",
    dependencies=[rate_limited("verify")],
    responses=documented(ErrorCode.INVALID_LINK, ErrorCode.VALIDATION_ERROR, ErrorCode.RATE_LIMITED),
)
async def passkey_verify_options(auth: CurrentAuth, body: LinkProof) -> dict[str, Any]:
    """What `navigator.credentials.get()` needs in a browser that did not sign up."""
    return await flows.verification_options(auth, Plaintext(body.token))


@router.post(
    "/verify",
    operation_id="auth_passkey_verify",
    summary="Verify an address with a passkey",
    dependencies=[rate_limited("verify")],
    responses=documented(ErrorCode.INVALID_LINK, *SHOWN, ErrorCode.RATE_LIMITED),
)
async def passkey_verify(auth: CurrentAuth, body: LinkPasskey) -> Message:
    """Verify an address with its mailed link and the passkey that signed up with it, in any browser."""
    await flows.verify_by_passkey(auth, taken(body, "token"), body.credential)
    return Message(detail="The e-mail address is verified.")


@own.post(
    "/options",
    operation_id="account_passkey_options",
    summary="Begin to add a passkey",
    responses=documented(*RECENT_LOGIN, ErrorCode.VALIDATION_ERROR),
)
async def passkey_addition_options(
    auth: CurrentAuth,
    authentication: EnrollingAuthentication,
    body: PasskeyOptions = PasskeyOptions(),  # noqa: B008 - nothing changes it
) -> dict[str, Any]:
    """What `navigator.credentials.create()` needs. Needs a recent login."""
    return await flows.addition_options(
        auth, authentication, second_factor=body.second_factor, upgrade=body.upgrade
    )


@own.post(
    "",
    operation_id="account_add_passkey",
    summary="Add a passkey",
    status_code=201,
    responses=documented(
        PasskeyError.PASSKEY_EXPIRED,
        PasskeyError.PASSKEY_REFUSED,
        PasskeyError.PASSKEY_EXISTS,
        PasskeyError.TOO_MANY_PASSKEYS,
        *RECENT_LOGIN,
        ErrorCode.VALIDATION_ERROR,
    ),
)
async def add_passkey(
    auth: CurrentAuth, authentication: EnrollingAuthentication, body: PasskeyCreate
) -> PasskeyOut:
    """Add the passkey that the browser has made. Needs a recent login; the owner is told by mail."""
    return out(await flows.add(auth, authentication, body.credential, body.name))


@own.get("", operation_id="account_list_passkeys", summary="List the passkeys")
async def list_passkeys(auth: CurrentAuth, authentication: EnrollingAuthentication) -> list[PasskeyOut]:
    """The passkeys of the user, the oldest first."""
    return [out(passkey) for passkey in await keeping.passkeys_of(auth, authentication.user.id)]


@own.get(
    "/{passkey_id}",
    operation_id="account_get_passkey",
    summary="Show a passkey",
    responses=documented(PasskeyError.PASSKEY_NOT_FOUND),
)
async def get_passkey(
    auth: CurrentAuth, authentication: EnrollingAuthentication, passkey_id: TextId
) -> PasskeyOut:
    """One passkey of the user."""
    return out(
        await keeping.passkey_of(
            auth, authentication.user.id, id_from(passkey_id, PasskeyError.PASSKEY_NOT_FOUND)
        )
    )


@own.patch(
    "/{passkey_id}",
    operation_id="account_change_passkey",
    summary="Rename or keep a passkey",
    responses=documented(PasskeyError.PASSKEY_NOT_FOUND, *RECENT_LOGIN, ErrorCode.VALIDATION_ERROR),
)
async def change_passkey(
    auth: CurrentAuth, authentication: EnrollingAuthentication, passkey_id: TextId, body: PasskeyUpdate
) -> PasskeyOut:
    """Give a passkey another name. After a reset of the password, `keep` lets one sign in again; that needs a
    recent login."""
    wanted = id_from(passkey_id, PasskeyError.PASSKEY_NOT_FOUND)
    return out(await keeping.change(auth, authentication, wanted, name=body.name, keep=body.keep))


@own.delete(
    "/{passkey_id}",
    operation_id="account_remove_passkey",
    summary="Remove a passkey",
    status_code=204,
    responses=documented(
        PasskeyError.PASSKEY_NOT_FOUND, ErrorCode.LAST_WAY_IN, *RECENT_LOGIN, ErrorCode.VALIDATION_ERROR
    ),
)
async def remove_passkey(
    auth: CurrentAuth, authentication: EnrollingAuthentication, passkey_id: TextId
) -> None:
    """Remove a passkey, but not the last way in. Needs a recent login; the owner is told by mail."""
    await keeping.remove(auth, authentication, id_from(passkey_id, PasskeyError.PASSKEY_NOT_FOUND))


@well_known.get(
    "/webauthn",
    operation_id="auth_passkey_related_origins",
    summary="Other origins with the same passkeys",
    responses=documented(PasskeyError.PASSKEY_NOT_FOUND),
)
async def passkey_related_origins(auth: CurrentAuth) -> RelatedOrigins:
    """Where the app names such origins (WebAuthn Level 3 section 5.11)."""
    origins = auth.features.settings_of(PasskeySettings).passkey_related_origins
    if not origins:
        raise AuthError(PasskeyError.PASSKEY_NOT_FOUND)
    return RelatedOrigins(origins=origins)


def out(passkey: Passkey) -> PasskeyOut:
    """What its owner sees."""
    return PasskeyOut(**keeping.shown(passkey))


@router.get("/passkeys.js", name="passkey_module", include_in_schema=False)
async def passkey_module(request: Request) -> Response:
    """The script of the pages as an ES module, for apps of one page: the same for everybody, until the
    package is updated."""
    source, tag = _module()
    headers = {"Cache-Control": "public, max-age=3600", "ETag": tag, "X-Content-Type-Options": "nosniff"}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(source, media_type="text/javascript", headers=headers)


@cache
def _module() -> tuple[str, str]:
    """With its tag (RFC 9110 section 8.8.3)."""
    folder = Path(__file__).parent / "templates"
    source = "".join((folder / name).read_text("utf-8") for name in MODULE)
    return source, f'"{hashlib.sha256(source.encode()).hexdigest()[:32]}"'
