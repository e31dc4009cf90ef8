"""Passkeys on the pages. Their script asks for options, has the browser make or show a passkey, and posts it
in a hidden field of the same form, so that each answer is a page."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any, Final, TypeVar

from fastapi import Depends, Form, Request, Response
from pydantic import BaseModel, ValidationError

from ...auth import Auth
from ...dependencies import CurrentAuth, EnrollingAuthentication
from ...email.tokens import Purpose as LinkPurpose
from ...errors import AuthError, ErrorCode
from ...flows import login as login_flow
from ...flows.authentication import Authentication, is_recent
from ...http.addresses import wanted
from ...http.cookies import device_of
from ...http.csrf import check_form
from ...http.rates import rate_limited
from ...http.responses import documented
from ...routes.bodies import mounted_bodies
from ...routes.ids import id_from
from ...routes.pages.faults import UnfilledError
from ...routes.pages.forms import NextForm, Secret, problem_with
from ...routes.pages.links import LinkToken, link_page
from ...routes.pages.own_fields import entered_in, filled
from ...routes.pages.rendering import see_other
from ...routes.pages.route import PageRoute, back_to
from ...routes.pages.security import show_security
from ...routes.pages.sign_in import (
    RememberForm,
    confirm_page,
    confirmed,
    show_answer,
    show_sign_in,
)
from ...routes.pages.sign_up import AddressForm, SignUpRoute, body_of, require_open, signed_up
from ...routes.pages.verified import after_verification
from ...routes.router import AuthRouter
from ...schemas import EmailRequest, Reauthentication, Text, UserCreate, taken
from ...security.jwt import Transport
from ...security.plaintext import Plaintext
from . import flows, keeping
from .challenges import Purpose
from .credentials import Assertion, Registration
from .models import Passkey
from .names import PasskeyError
from .routes import bound_browser, browsers_of
from .schemas import PasskeyEndpoints, PasskeyName

C = TypeVar("C", bound=BaseModel)

TAGS: Final = ["account pages"]

router = AuthRouter(prefix="/account", tags=[*TAGS], route_class=PageRoute, include_in_schema=False)

sign_up = AuthRouter(
    prefix="/account/sign-up/passkey",
    tags=[*TAGS],
    route_class=SignUpRoute,
    include_in_schema=False,
    dependencies=[Depends(require_open)],
)

verify = AuthRouter(prefix="/auth/verify", tags=[*TAGS], route_class=PageRoute, include_in_schema=False)

well_known = AuthRouter(prefix="/.well-known", tags=["passkeys"], at_root=True)


class PasskeyForm(BaseModel):
    """A passkey that the script has put there, in JSON; nothing where it could not begin."""

    credential: Secret


class SignInForm(PasskeyForm, RememberForm):
    """A passkey to sign in with."""


class ConfirmForm(PasskeyForm, NextForm):
    """A passkey to confirm with, and the password for one that is only a second factor."""

    password: Secret


class SignUpForm(PasskeyForm, AddressForm):
    """A passkey to sign up with."""


class ChallengeForm(BaseModel):
    """What the password has led to."""

    challenge: Secret


class AddForm(PasskeyForm):
    """A passkey to add, beside a password alone where it says so."""

    second_factor: Text = ""


class OwnForm(BaseModel):
    """A passkey of the user, which the form names."""

    passkey: Text = ""


class RenameForm(OwnForm):
    """The same, and what to call it."""

    name: Text = ""


class _Named(BaseModel):
    display_name: PasskeyName  # as the pages call a name that is refused


# Signing in


@router.post("/sign-in/passkey/options", dependencies=[Depends(check_form), rate_limited("passkey_options")])
async def passkey_sign_in_options(auth: CurrentAuth, request: Request, response: Response) -> dict[str, Any]:
    """The same for everybody."""
    return flows.request_options(auth, Purpose.SIGN_IN, bound_browser(request, response, auth))


router.get("/sign-in/passkey", name="back_from_passkey_sign_in")(back_to("sign-in"))


@router.post("/sign-in/passkey", dependencies=[Depends(check_form), rate_limited("login")])
async def passkey_sign_in_form(
    auth: CurrentAuth, request: Request, form: Annotated[SignInForm, Form()]
) -> Response:
    """Signs this browser in."""
    unknown: dict[str, Any] = {}
    try:
        credential = _parsed(Assertion, form.credential)
        browsers, device = browsers_of(request, auth), device_of(request)
        try:
            tokens = await flows.sign_in(auth, credential, browsers, device, transport=Transport.COOKIE)
        except AuthError as error:
            if error.code is PasskeyError.PASSKEY_UNKNOWN:
                unknown = _unknown(auth, credential.id)
            if error.code is ErrorCode.INVALID_CREDENTIALS:  # the words for which speak of a password
                raise AuthError(PasskeyError.PASSKEY_REFUSED) from error
            raise
    except AuthError as error:
        return show_sign_in(auth, request, form.next, error=error, remember=form.remembers, **unknown)
    return await show_answer(auth, request, tokens, form.next, remember=form.remembers)


@router.post("/sign-in/code/passkey/options", dependencies=[Depends(check_form), rate_limited("login")])
async def passkey_page_second_factor_options(
    auth: CurrentAuth, form: Annotated[ChallengeForm, Form()]
) -> dict[str, Any]:
    """Those of the user whose password was right."""
    user = await login_flow.challenged(auth, form.challenge)
    return await flows.second_factor_options(auth, user)


# Confirming


@router.post("/confirm-password/passkey/options", dependencies=[rate_limited("reauthenticate")])
async def passkey_confirm_options(
    auth: CurrentAuth, authentication: EnrollingAuthentication
) -> dict[str, Any]:
    """Those that are enough by themselves; where there are none, those beside the password."""
    if await flows.has_enough(auth, authentication.user.id):
        return await flows.reauthentication_options(auth, authentication)
    return await flows.second_factor_options(auth, authentication.user)


router.get("/confirm-password/passkey", name="back_from_passkey_confirm")(back_to("confirm-password"))


@router.post("/confirm-password/passkey", dependencies=[rate_limited("reauthenticate")])
async def passkey_confirm_form(
    auth: CurrentAuth,
    request: Request,
    authentication: EnrollingAuthentication,
    form: Annotated[ConfirmForm, Form()],
) -> Response:
    """Makes the login recent again, and leads back."""
    try:
        if await flows.has_enough(auth, authentication.user.id):
            credential = _parsed(Assertion, form.credential)
            await flows.reauthenticate(auth, authentication, credential)
        else:
            body = Reauthentication(password=form.password.take())
            await login_flow.reauthenticate(auth, authentication, taken(body, "password"), form.credential)
    except (ValidationError, AuthError) as error:
        return await confirm_page(auth, request, authentication, form.next, problem_with(error))
    return confirmed(auth, request, form.next)


# Signing up


@sign_up.post("/options", dependencies=[Depends(check_form), rate_limited("signup")])
async def passkey_page_sign_up_options(
    auth: CurrentAuth, request: Request, response: Response, form: Annotated[AddressForm, Form()]
) -> dict[str, Any]:
    """The same for any address. What else the form asks for has to be there, so that no passkey is made for
    nothing."""
    body, fields = body_of(auth)
    try:
        filled(body, fields, entered_in(fields, await request.form()), {"email": form.email})
    except UnfilledError as error:
        if error.faults.keys() - {"password"}:
            raise AuthError(ErrorCode.VALIDATION_ERROR) from error
    browser = bound_browser(request, response, auth)
    return flows.sign_up_options(auth, EmailRequest(email=form.email).email, browser)


sign_up.get("", name="back_from_passkey_sign_up")(back_to("sign-up"))


@sign_up.post("", dependencies=[Depends(check_form), rate_limited("signup")])
async def passkey_sign_up_form(
    auth: CurrentAuth, request: Request, form: Annotated[SignUpForm, Form()]
) -> Response:
    """Creates the account, which has the passkey in place of a password. Where it is refused, the browser
    drops the passkey."""
    body, field, credential, unknown = _sign_up_body(auth), "credential", None, {}
    if form.credential.look():
        try:
            credential = _parsed(Registration, form.credential)
            unknown = _unknown(auth, credential.id)
        except AuthError:
            credential = None
    if credential is None:  # as a password that is missing, beside what else is
        body, field = body_of(auth)[0], "password"
    return await signed_up(auth, request, form, body, field, credential or Plaintext(""), **unknown)


@verify.post("/{token}/passkey/options", dependencies=[rate_limited("verify")])
async def passkey_page_verify_options(auth: CurrentAuth, token: LinkToken) -> dict[str, Any]:
    """Those of the account whose link it is."""
    return await flows.verification_options(auth, token)


@verify.post("/{token}/passkey", dependencies=[rate_limited("verify")])
async def passkey_verify_form(
    auth: CurrentAuth, request: Request, token: LinkToken, form: Annotated[PasskeyForm, Form()]
) -> Response:
    """Verifies the address in a browser that did not sign up, and leads on."""
    try:
        verified = await flows.verify_by_passkey(auth, token.copy(), _parsed(Assertion, form.credential))
    except AuthError as error:
        return await link_page(auth, request, LinkPurpose.VERIFY, token, error)
    return await after_verification(auth, request, verified)


# The security page


@router.post("/security/passkeys/options")
async def passkey_page_addition_options(
    auth: CurrentAuth, authentication: EnrollingAuthentication, form: Annotated[AddForm, Form()]
) -> dict[str, Any]:
    """Those to make one more."""
    return await flows.addition_options(auth, authentication, second_factor=bool(form.second_factor))


for path in ("add", "rename", "keep", "remove"):
    router.get(f"/security/passkeys/{path}", name=f"back_from_passkey_{path}")(back_to("security"))


@router.post("/security/passkeys/add")
async def passkey_add_form(
    auth: CurrentAuth,
    request: Request,
    authentication: EnrollingAuthentication,
    form: Annotated[AddForm, Form()],
) -> Response:
    """Adds the passkey that the browser has made."""
    try:
        await flows.add(auth, authentication, _parsed(Registration, form.credential))
    except AuthError as error:
        return await show_security(auth, request, authentication, error, "passkeys")
    return see_other(auth, request, "security", notice="passkey_added", next=wanted(request))


@router.post("/security/passkeys/upgrade/options")
async def passkey_upgrade_options(
    auth: CurrentAuth, authentication: EnrollingAuthentication
) -> dict[str, Any]:
    """Those for a passkey that the browser makes by itself, right after a login with the password. Raises
    `AuthError(PASSKEY_NOT_FOUND)` for any other session."""
    if "pwd" not in authentication.factors:
        raise AuthError(PasskeyError.PASSKEY_NOT_FOUND)
    return await flows.addition_options(auth, authentication, upgrade=True)


@router.post("/security/passkeys/upgrade", status_code=204)
async def passkey_upgrade_form(
    auth: CurrentAuth, authentication: EnrollingAuthentication, form: Annotated[PasskeyForm, Form()]
) -> None:
    """Adds it, while another page may be open already."""
    await flows.add(auth, authentication, _parsed(Registration, form.credential))


@router.post("/security/passkeys/rename")
async def passkey_rename_form(
    auth: CurrentAuth,
    request: Request,
    authentication: EnrollingAuthentication,
    form: Annotated[RenameForm, Form()],
) -> Response:
    """Gives a passkey another name."""
    try:
        name = _Named(display_name=form.name.strip()).display_name
        await keeping.change(
            auth, authentication, id_from(form.passkey, PasskeyError.PASSKEY_NOT_FOUND), name=name
        )
    except (ValidationError, AuthError) as error:
        return await show_security(auth, request, authentication, error, "passkeys")
    return see_other(auth, request, "security", notice="saved", next=wanted(request))


@router.post("/security/passkeys/keep")
async def passkey_keep_form(
    auth: CurrentAuth,
    request: Request,
    authentication: EnrollingAuthentication,
    form: Annotated[OwnForm, Form()],
) -> Response:
    """Lets a passkey sign in again."""
    try:
        await keeping.change(
            auth, authentication, id_from(form.passkey, PasskeyError.PASSKEY_NOT_FOUND), keep=True
        )
    except AuthError as error:
        return await show_security(auth, request, authentication, error, "passkeys")
    return see_other(auth, request, "security", notice="passkey_kept", next=wanted(request))


@router.post("/security/passkeys/remove")
async def passkey_remove_form(
    auth: CurrentAuth,
    request: Request,
    authentication: EnrollingAuthentication,
    form: Annotated[OwnForm, Form()],
) -> Response:
    """Removes a passkey, but not the last way in."""
    try:
        await keeping.remove(auth, authentication, id_from(form.passkey, PasskeyError.PASSKEY_NOT_FOUND))
    except AuthError as error:
        return await show_security(auth, request, authentication, error, "passkeys")
    return see_other(auth, request, "security", notice="passkey_removed", next=wanted(request))


@well_known.get(
    "/passkey-endpoints",
    operation_id="auth_passkey_endpoints",
    summary="Where passkeys are added and managed",
    responses=documented(),
)
async def passkey_endpoints(auth: CurrentAuth) -> PasskeyEndpoints:
    """The section of the security page, for password managers."""
    section = auth.settings.public_url("/account/security#passkeys")
    return PasskeyEndpoints(enroll=section, manage=section)


# What the pages show


async def on_the_security_page(auth: Auth, authentication: Authentication) -> Mapping[str, Any]:
    """The passkeys of the user, and what browsers are told of them."""
    user = authentication.user
    passkeys = await keeping.passkeys_of(auth, user.id)
    party = flows.relying_party(auth)
    return {
        "passkeys": [keeping.shown(passkey) for passkey in passkeys],
        "recent": is_recent(auth, authentication),
        "may_go_on": all(passkey.held_since is None for passkey in passkeys) if passkeys else None,
        "signals": {
            "rpId": party.id,
            "userId": flows.handle_of(user),
            "name": user.email,
            "displayName": user.display_name or user.email,
            "allAcceptedCredentialIds": [passkey.credential_id for passkey in passkeys],
        },
    }


async def held_notice(auth: Auth, authentication: Authentication) -> str | None:
    """What there is to say after a sign-in with a password: that passkeys wait for their owner's word."""
    if "pwd" not in authentication.factors or not authentication.user.second_factors:
        return None
    held = auth.tables.of(Passkey).filter(user_id=authentication.user.id, held_since__not_isnull=True)
    return "passkeys_held" if await held.exists() else None


def _unknown(auth: Auth, credential_id: str) -> dict[str, Any]:
    """What tells the browser that this passkey is of no use."""
    return {"unknown": {"rpId": flows.relying_party(auth).id, "credentialId": credential_id}}


def _parsed(kind: type[C], credential: Plaintext) -> C:
    """Raises `AuthError`: PASSKEY_EXPIRED where there is none, PASSKEY_REFUSED for what is not one."""
    if not credential.look():
        raise AuthError(PasskeyError.PASSKEY_EXPIRED)
    try:
        return kind.model_validate_json(credential.take())
    except ValidationError as error:
        raise AuthError(PasskeyError.PASSKEY_REFUSED) from error


@lru_cache(maxsize=16)
def _sign_up_body(auth: Auth) -> type[UserCreate]:
    body: Any = mounted_bodies(auth.bodies, auth.features)[UserCreate]
    return body  # type: ignore[no-any-return]
