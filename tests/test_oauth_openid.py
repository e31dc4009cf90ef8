"""OpenID Connect: users sign in to other apps with their account here, and out again."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import jwt
import pytest
from fastapi import FastAPI
from joserfc import jwk as joserfc_jwk
from joserfc import jwt as joserfc_jwt

from fastapi_pluggable_auth import Auth, AuthSettings, include_auth
from fastapi_pluggable_auth.features import OAuthServer
from fastapi_pluggable_auth.features.oauth_server.clients import create_client
from fastapi_pluggable_auth.features.oauth_server.models import AUTHORIZATION_CODE, CLIENT_CREDENTIALS
from fastapi_pluggable_auth.features.oauth_server.openid import methods_of
from fastapi_pluggable_auth.features.oauth_server.settings import OAuthSettings
from fastapi_pluggable_auth.models import OAuthToken, Session, User
from fastapi_pluggable_auth.security.jwt import ACCESS, TokenSigner
from fastapi_pluggable_auth.security.keys import key_set

from .conftest import EMAIL, PASSWORD, SECRET, Account, Clock, Mailbox
from .form_browser import BROWSER, FormBrowser, Page
from .oauth_program import (
    ISSUER,
    REDIRECT,
    RESOURCES,
    SCOPES,
    Program,
    add_notes,
    answer_in,
    browser_of,
    location_in,
    registered,
    signed_in,
)
from .test_keys import EC, OTHER_EC, RSA, pem_of, public_pem_of

DIALECTS = ("sqlite",)

AFTER = "https://app.example.com/signed-out"
OPENID = "/.well-known/openid-configuration"


@pytest.fixture
def settings(settings: AuthSettings) -> AuthSettings:
    settings.jwt_private_key = pem_of(EC)
    settings.jwt_algorithm = "ES256"
    return settings


def openid_settings(**more: Any) -> OAuthSettings:
    return OAuthSettings(_env_file=None, oauth_openid=True, **more)


@pytest.fixture
def app(settings: AuthSettings, clock: Clock) -> FastAPI:
    app = FastAPI()
    server = OAuthServer(resources=RESOURCES, scopes=SCOPES, settings=openid_settings())
    include_auth(app, settings=settings, clock=clock, features=[server], pages=True)
    add_notes(app)
    return app


@pytest.fixture
async def user(app: FastAPI, account: Account) -> FormBrowser:
    return await signed_in(app, account)


@pytest.fixture
async def program(auth: Auth, client: httpx.AsyncClient) -> Program:
    return await registered(auth, client, post_logout_redirect_uris=[AFTER])


async def signs_in(program: Program, user: FormBrowser, **changed: str | None) -> dict[str, Any]:
    """The claims of the ID token of a sign-in, checked by PyJWT with the published keys."""
    asked = {"scope": "openid", "resource": None, **changed}
    tokens = await program.connect(user, **asked)
    return await checked(program, tokens["id_token"])


async def checked(program: Program, token: str, issuer: str = ISSUER) -> dict[str, Any]:
    keys = jwt.PyJWKSet.from_dict((await program.http.get("/.well-known/jwks.json")).json())
    header = jwt.get_unverified_header(token)
    claims: dict[str, Any] = jwt.decode(
        token,
        keys[header["kid"]],
        algorithms=["ES256", "RS256"],
        audience=program.client_id,
        issuer=issuer,
        options={"verify_exp": False, "verify_iat": False},  # of the clock of the tests
    )
    return claims


def about(clock: Clock, **later: int) -> Any:
    """The time of the tests, which goes on."""
    return pytest.approx((clock() + timedelta(**later)).timestamp(), abs=10)


async def userinfo(program: Program, token: str | None = None, method: str = "GET") -> httpx.Response:
    token = program.tokens["access_token"] if token is None else token
    headers = {"Authorization": f"Bearer {token}"}
    return await program.http.request(method, "/oauth/userinfo", headers=headers)


@pytest.mark.parametrize(("algorithm", "key"), [("RS256", RSA), ("ES256", EC)])
async def test_another_app_learns_who_signs_in_by_a_token_that_it_checks_with_the_published_keys(
    algorithm: str,
    key: Any,
    settings: AuthSettings,
    client: httpx.AsyncClient,
    auth: Auth,
    user: FormBrowser,
    program: Program,
    clock: Clock,
) -> None:
    """OpenID Connect Core sections 2, 3.1.3.3 and 5.4, Discovery section 3: all that a client needs is where
    the issuer says."""
    settings.jwt_private_key = pem_of(key)
    settings.jwt_algorithm = algorithm  # type: ignore[assignment]
    found = (await client.get(OPENID)).json()
    assert found["issuer"] == ISSUER
    assert found["id_token_signing_alg_values_supported"] == [algorithm]
    assert {"openid", "profile", "email"} <= {*found["scopes_supported"]}
    assert found["subject_types_supported"] == ["public"]
    assert found["request_uri_parameter_supported"] is False
    assert found["userinfo_endpoint"] == f"{ISSUER}/oauth/userinfo"
    assert found["end_session_endpoint"] == f"{ISSUER}/oauth/logout"
    resource = (await client.get("/.well-known/oauth-protected-resource/api")).json()
    assert resource["scopes_supported"] == [*SCOPES]  # agents ask for all of these

    await User.filter(email=EMAIL).update(display_name="Ada Lovelace", language="en")
    user = await signed_in_anew(user)
    page = await program.ask(user, scope="openid profile email", nonce="n-1", resource=None)
    for sentence in ("Sign you in with this account", "See your name and", "See your e-mail address"):
        assert sentence in page.text
    location = location_in(await user.submit("authorize", decision="allow"))
    tokens = (await program.exchange(answer_in(location)["code"])).json()
    keys = (await client.get(found["jwks_uri"].removeprefix(ISSUER))).json()
    decoded = joserfc_jwt.decode(
        tokens["id_token"], joserfc_jwk.KeySet.import_key_set(keys), algorithms=[algorithm]
    )
    assert decoded.header["alg"] == algorithm
    owner = await User.get(email=EMAIL)
    digest = hashlib.sha256(tokens["access_token"].encode()).digest()[:16]
    assert decoded.claims == {
        "iss": ISSUER,
        "sub": str(owner.id),
        "aud": program.client_id,
        "iat": about(clock),
        "exp": about(clock, minutes=5),
        "auth_time": about(clock),
        "nonce": "n-1",
        "amr": ["pwd"],
        "at_hash": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
        "name": "Ada Lovelace",
        "locale": "en",
        "email": EMAIL,
        "email_verified": True,
    }
    assert await checked(program, tokens["id_token"]) == decoded.claims


async def signed_in_anew(browser: FormBrowser) -> FormBrowser:
    """The same browser after a change of the keys."""
    browser.client.cookies.clear()
    await browser.open("/account/sign-in")
    assert (await browser.submit("sign-in", email=EMAIL, password=PASSWORD)).status == 200
    return browser


async def test_scopes_of_a_sign_in_are_given_to_no_client_that_does_not_name_them(
    user: FormBrowser, program: Program, auth: Auth, client: httpx.AsyncClient
) -> None:
    tokens = await program.connect(user, scope=None)
    assert tokens["scope"] == "notes:read notes:write"
    assert "id_token" not in tokens
    assert (await userinfo(program)).status_code == 403
    some = await registered(auth, client, scopes=["notes:read", "openid"])
    assert (await some.connect(user, scope=None))["scope"] == "notes:read"
    assert (await some.connect(user, scope="openid"))["scope"] == "openid"
    refused = location_in(await some.ask(user, scope="openid email"))
    assert answer_in(refused)["error"] == "invalid_scope"


async def test_an_id_token_comes_with_the_code_alone(user: FormBrowser, program: Program) -> None:
    await program.connect(user, scope="openid notes:read")
    refreshed = (await program.refresh()).json()
    assert refreshed["scope"] == "notes:read openid"
    assert "id_token" not in refreshed
    assert not [row for row in await OAuthToken.all() if "ey" in str(row.details)]


async def test_the_user_of_an_app_keeps_the_subject_when_the_address_changes(
    user: FormBrowser, program: Program
) -> None:
    """OpenID Connect Core sections 5.3 and 5.7."""
    await program.connect(user, scope="openid email", resource=None)
    owner = await User.get(email=EMAIL)
    first = await userinfo(program)
    assert first.json() == {"sub": str(owner.id), "email": EMAIL, "email_verified": True}
    assert first.headers["cache-control"] == "no-store"
    assert first.headers["access-control-allow-origin"] == "*"
    await User.filter(id=owner.id).update(email="new@example.com", is_verified=False)
    later = await userinfo(program, method="POST")
    assert later.json() == {"sub": str(owner.id), "email": "new@example.com", "email_verified": False}


async def test_userinfo_needs_a_live_token_with_the_scope_in_the_header(
    user: FormBrowser, program: Program, clock: Clock, client: httpx.AsyncClient
) -> None:
    """RFC 6750 section 3.1; no cookie has a part in it."""
    await program.connect(user, scope="notes:read email")
    beyond = await userinfo(program)
    assert (beyond.status_code, beyond.json()["error"]) == (403, "insufficient_scope")
    assert beyond.headers["www-authenticate"] == 'Bearer error="insufficient_scope"'
    await program.connect(user, scope="openid")
    token = program.tokens["access_token"]
    assert (await userinfo(program)).json().keys() == {"sub"}
    for refused in (
        await user.client.get("/oauth/userinfo"),
        await client.get(f"/oauth/userinfo?access_token={token}"),
        await client.get("/oauth/userinfo", headers=[("Authorization", f"Bearer {token}")] * 2),
        await userinfo(program, ""),
    ):
        assert (refused.status_code, refused.json()["error"]) == (401, "invalid_token")
        assert refused.headers["www-authenticate"] == 'Bearer error="invalid_token"'
        assert refused.headers["access-control-allow-origin"] == "*"
    clock.advance(minutes=61)
    assert (await userinfo(program)).status_code == 401
    await program.refresh()
    assert (await userinfo(program)).status_code == 200
    await program.revoke(program.tokens["refresh_token"])
    assert (await userinfo(program)).status_code == 401
    preflight = await client.options("/oauth/userinfo")
    assert preflight.headers["access-control-allow-headers"].startswith("Authorization")


@pytest.mark.parametrize(
    ("factors", "said"),
    [
        (["pwd"], ["pwd"]),
        (["mail"], ["mail"]),
        (["pwd", "mail"], ["mail", "pwd"]),
        (["pwd", "otp"], ["mfa", "otp", "pwd"]),
        (["pwd", "recovery"], ["mfa", "pwd", "recovery"]),
        (["passkey"], ["mfa", "pop"]),
        (["pwd", "device"], ["device", "pwd"]),
        (["otp"], ["otp"]),
    ],
)
def test_factors_have_the_names_that_others_know(factors: list[str], said: list[str]) -> None:
    """RFC 8176."""
    assert methods_of(factors) == said


async def test_a_token_says_when_and_how_the_user_has_signed_in(
    user: FormBrowser, program: Program, clock: Clock
) -> None:
    begun = about(clock)
    clock.advance(minutes=20)
    await Session.all().update(factors="pwd otp")
    claims = await signs_in(program, user)
    assert (claims["auth_time"], claims["amr"]) == (begun, ["mfa", "otp", "pwd"])
    assert "nonce" not in claims
    clock.advance(minutes=20)  # consent is remembered now, and so no page asks
    claims = await signs_in(program, user, nonce="n-2")
    assert (claims["auth_time"], claims["nonce"]) == (begun, "n-2")


@pytest.mark.parametrize("asked", [{"max_age": "60"}, {"max_age": "0"}, {"prompt": "login"}])
async def test_a_login_that_is_too_old_is_made_anew_and_the_token_says_so(
    asked: dict[str, str], user: FormBrowser, program: Program, clock: Clock
) -> None:
    """OpenID Connect Core sections 3.1.2.1 and 3.1.2.3."""
    await signs_in(program, user)
    clock.advance(minutes=2)
    page = await program.ask(user, scope="openid", resource=None, **asked)
    assert page.path == "/account/confirm-password"
    page = await user.submit("confirm-password", password=PASSWORD)
    answer = answer_in(location_in(page))
    await program.exchange(answer["code"])
    claims = await checked(program, program.tokens["id_token"])
    assert claims["auth_time"] == about(clock)


async def test_a_login_that_is_young_enough_is_taken(
    user: FormBrowser, program: Program, clock: Clock
) -> None:
    clock.advance(minutes=2)
    claims = await signs_in(program, user, max_age="121")
    assert claims["auth_time"] == about(clock, minutes=-2)
    for wrong in ("-1", "1.5", "soon", "9" * 30):
        answer = answer_in(location_in(await program.ask(user, scope="openid", max_age=wrong)))
        assert answer["error"] == "invalid_request", wrong


async def test_without_a_page_only_who_is_signed_in_recently_enough_gets_a_token(
    app: FastAPI, user: FormBrowser, program: Program, clock: Clock, account: Account
) -> None:
    """`prompt=none`: OpenID Connect Core section 3.1.2.6."""
    silent = {"scope": "openid", "resource": None, "prompt": "none"}
    stranger = await program.ask(browser_of(app), **silent)
    assert answer_in(location_in(stranger))["error"] == "login_required"
    assert answer_in(location_in(await program.ask(user, **silent)))["error"] == "consent_required"
    await signs_in(program, user)
    hint = program.tokens["id_token"]
    assert "code" in answer_in(location_in(await program.ask(user, **silent)))
    clock.advance(minutes=5)
    old = await program.ask(user, **silent, max_age="60")
    assert answer_in(location_in(old))["error"] == "login_required"
    assert "code" in answer_in(location_in(await program.ask(user, **silent, id_token_hint=hint)))
    other = await someone_else(app)
    await signs_in(program, other)
    for prompt in ("none", "consent"):
        theirs = await program.ask(other, **{**silent, "prompt": prompt}, id_token_hint=hint)
        assert answer_in(location_in(theirs))["error"] == "login_required"
    made_up = await program.ask(user, **silent, id_token_hint="x.y.z")
    assert answer_in(location_in(made_up))["error"] == "invalid_request"


async def someone_else(app: FastAPI) -> FormBrowser:
    """Another user, in a browser of theirs."""
    hashed = (await User.get(email=EMAIL)).hashed_password
    await User.create(email="bob@example.com", hashed_password=hashed, is_verified=True)
    browser = browser_of(app)
    await browser.open("/account/sign-in")
    page = await browser.submit("sign-in", email="bob@example.com", password=PASSWORD)
    assert page.status == 200
    return browser


@pytest.mark.parametrize("prompt", ["consent", "select_account"])
async def test_a_user_who_has_to_choose_sees_the_account_and_may_take_another(
    prompt: str, user: FormBrowser, program: Program
) -> None:
    await signs_in(program, user)
    page = await program.ask(user, scope="openid", resource=None, prompt=prompt)
    assert EMAIL in page.text
    page = await user.submit("sign-out")
    assert page.path == "/account/sign-in"
    page = await user.submit("sign-in", email=EMAIL, password=PASSWORD)
    assert page.form("authorize")  # led back


async def test_a_request_that_comes_as_a_form_of_the_client_is_led_to_the_page(
    user: FormBrowser, program: Program
) -> None:
    """OpenID Connect Core section 3.1.2.1, without the cookies, which browsers do not send to it; nothing is
    decided by that."""
    query = urlsplit(program.address(scope="openid", resource=None)).query
    form = urlencode([*parse_qsl(query), ("decision", "allow")])
    sent = {
        **BROWSER,
        "Content-Type": "application/x-www-form-urlencoded",
        "Origin": "https://app.example.com",
    }
    answer = await program.http.post("/oauth/authorize", content=form, headers=sent)
    assert answer.status_code == 303
    shown = await user.open(answer.headers["Location"])
    assert "code=" not in shown.text
    location = location_in(await user.submit("authorize", decision="allow"))
    assert (await program.exchange(answer_in(location)["code"])).json()["id_token"]
    long = await program.http.post("/oauth/authorize", data={"client_id": "c" * 9000}, headers=BROWSER)
    assert (long.status_code, "cannot be connected" in long.text) == (400, True)


async def test_a_mail_says_in_the_language_of_the_user_what_was_allowed(
    user: FormBrowser, program: Program, mailbox: Mailbox
) -> None:
    await User.all().update(language="de")
    await program.code(user, scope="openid email notes:read")
    (mail,) = [each for each in mailbox.messages if "Desk" in each["Subject"]]
    said = mail.get_body(("plain",))
    assert said is not None
    text = said.get_content().replace("\n", " ")
    assert "Read your notes, Sie mit diesem Konto anmelden, Ihre E-Mail-Adresse sehen" in text
    page = await user.open("/account/security/applications")
    assert page.status == 200


async def test_a_client_that_acts_for_itself_signs_nobody_in(auth: Auth, client: httpx.AsyncClient) -> None:
    itself = await registered(
        auth, client, confidential=True, grant_types=[AUTHORIZATION_CODE, CLIENT_CREDENTIALS]
    )
    refused = await itself.post("/oauth/token", grant_type=CLIENT_CREDENTIALS, scope="openid notes:read")
    assert refused.json()["error"] == "invalid_scope"
    given = await itself.post("/oauth/token", grant_type=CLIENT_CREDENTIALS)
    assert given.json().keys() == {"access_token", "token_type", "expires_in", "scope"}
    assert (await userinfo(itself, given.json()["access_token"])).status_code == 401


# Tokens of one kind in the place of another


async def test_an_id_token_opens_nothing(
    user: FormBrowser, program: Program, client: httpx.AsyncClient
) -> None:
    """RFC 8725 section 3.12: it tells one client who has signed in, and is no token of any other kind."""
    await program.connect(user, scope="openid notes:read")
    token = program.tokens["id_token"]
    for path in ("/api/notes", "/auth/me", "/oauth/userinfo", "/account/sessions"):
        assert (await program.get(path, token)).status_code == 401, path
    assert (await program.refresh(token)).json()["error"] == "invalid_grant"
    assert (await program.exchange(token)).json()["error"] == "invalid_grant"
    assert (await client.post("/auth/refresh", json={"token": token})).status_code == 401
    cookies = {"access_token": token, "refresh_token": token}
    for name in ("__Host-", ""):
        jar = {f"{name}{each}": value for each, value in cookies.items()}
        header = "; ".join(f"{key}={value}" for key, value in jar.items())
        assert (await client.get("/auth/me", headers={"Cookie": header})).status_code == 401


async def test_no_other_token_is_good_at_userinfo(
    user: FormBrowser, program: Program, account: Account
) -> None:
    await program.connect(user, scope="openid")
    for token in (program.tokens["refresh_token"], program.tokens["id_token"], account.access_token):
        assert (await userinfo(program, token)).status_code == 401


def forged(claims: dict[str, Any], kind: str, settings: AuthSettings) -> str:
    """A token that is no ID token of ours, but says all that one says."""
    match kind:
        case "alg none":
            return jwt.encode(claims, None, algorithm="none")
        case "HS256 with the public key":
            # By hand, as PyJWT refuses to.
            import hmac

            parts = [
                base64.urlsafe_b64encode(json.dumps(each).encode()).rstrip(b"=").decode()
                for each in ({"alg": "HS256", "typ": "JWT"}, claims)
            ]
            signed = ".".join(parts)
            digest = hmac.digest(public_pem_of(EC).encode(), signed.encode(), "sha256")
            return f"{signed}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"
        case "another key":
            return jwt.encode(claims, pem_of(OTHER_EC), algorithm="ES256")
        case "another type":
            return key_set(settings).sign(claims, ACCESS)
        case "another issuer":
            return key_set(settings).sign({**claims, "iss": "https://evil.example"}, "JWT")
    return jwt.encode(claims, SECRET, algorithm="HS256")


@pytest.mark.parametrize(
    "kind",
    [
        "alg none",
        "HS256 with the public key",
        "another key",
        "another type",
        "another issuer",
        "the shared secret",
    ],
)
async def test_what_is_no_id_token_of_ours_is_no_hint(
    kind: str, user: FormBrowser, program: Program, settings: AuthSettings
) -> None:
    """RFC 8725 sections 2.1, 3.1 and 3.11."""
    claims = await signs_in(program, user)
    good = program.tokens["id_token"]
    bad = forged(claims, kind, settings)
    page = await user.open(logout_of(id_token_hint=good, post_logout_redirect_uri=AFTER))
    assert page.form("logout").hidden["post_logout_redirect_uri"] == AFTER
    page = await user.open(logout_of(id_token_hint=bad, post_logout_redirect_uri=AFTER))
    assert page.form("logout").hidden["post_logout_redirect_uri"] == ""
    assert "its id_token_hint is not an ID token of this server" in page.text
    answer = answer_in(location_in(await program.ask(user, scope="openid", id_token_hint=bad)))
    assert answer["error"] == "invalid_request"


async def test_a_token_of_a_session_is_no_hint(
    user: FormBrowser, program: Program, account: Account, settings: AuthSettings
) -> None:
    owner = await User.get(email=EMAIL)
    for token in (account.access_token, TokenSigner(settings).access_token(owner.id)):
        page = await user.open(logout_of(id_token_hint=token, post_logout_redirect_uri=AFTER))
        assert "is not an ID token of this server" in page.text


# Logout


def logout_of(**asked: str) -> str:
    return f"/oauth/logout?{httpx.QueryParams(asked)}"


async def is_signed_in(browser: FormBrowser) -> bool:
    answer = await browser.client.get("/auth/me", headers={"Accept": "application/json"})
    return answer.status_code == 200


def leads_to(page: Page) -> str:
    return location_in(page)


async def test_a_user_is_signed_out_by_the_button_and_led_back_with_the_state(
    user: FormBrowser, program: Program, clock: Clock
) -> None:
    """RP-Initiated Logout sections 2 and 3: also by a token that has expired long ago. A GET changes
    nothing."""
    await signs_in(program, user)
    clock.advance(days=1)
    user = await signed_in_anew(user)
    hint = program.tokens["id_token"]
    page = await user.open(logout_of(id_token_hint=hint, post_logout_redirect_uri=AFTER, state="s & 1"))
    assert page.status == 200
    for said in ("“Desk” asks to sign you out", EMAIL, "app.example.com"):
        assert said in page.text.replace("\u2068", "").replace("\u2069", "")
    assert hint not in page.text
    assert await is_signed_in(user)
    page = await user.submit("logout")
    assert leads_to(page) == f"{AFTER}?state=s+%26+1"
    assert not await is_signed_in(user)
    assert (await program.refresh()).status_code == 200  # what was allowed is not taken back


async def test_a_logout_without_a_hint_or_a_client_ends_the_session_too(
    user: FormBrowser, program: Program
) -> None:
    page = await user.open(logout_of(client_id=program.client_id, post_logout_redirect_uri=AFTER))
    assert leads_to(await user.submit("logout")) == AFTER
    user = await signed_in_anew(user)
    page = await user.open("/oauth/logout")
    assert "Do you want to sign out of" in page.text
    page = await user.submit("logout")
    assert (page.path, "You are signed out." in page.text) == ("/account/sign-in", True)
    assert not await is_signed_in(user)


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"post_logout_redirect_uri": "https://evil.example/"}, "is not one that the client has registered"),
        ({"post_logout_redirect_uri": f"{AFTER}/"}, "is not one that the client has registered"),
        ({"post_logout_redirect_uri": REDIRECT}, "is not one that the client has registered"),
        ({"client_id": "", "post_logout_redirect_uri": AFTER}, "but no client_id"),
        ({"client_id": "c_unknown", "post_logout_redirect_uri": AFTER}, "client_id is not known"),
        ({"id_token_hint": "x", "post_logout_redirect_uri": AFTER}, "is not an ID token of this server"),
        ({"state": "x" * 5000, "post_logout_redirect_uri": AFTER}, "it is too long"),
    ],
)
async def test_nobody_is_led_anywhere_that_no_client_has_registered(
    asked: dict[str, str], why: str, app: FastAPI, user: FormBrowser, program: Program
) -> None:
    """RP-Initiated Logout section 3; RFC 9700 section 4.11. The user can sign out all the same."""
    address = logout_of(**{"client_id": program.client_id, **asked})
    for browser in (browser_of(app), user):
        page = await browser.open(address)
        assert why in page.text
        assert not any("http-equiv" in attributes for tag, attributes in page.tags if tag == "meta")
        assert not [link for link in page.links if "example" in link]
    page = await user.submit("logout")
    assert page.path == "/account/sign-in"
    assert not await is_signed_in(user)


async def test_a_hint_of_another_user_or_client_leads_nowhere(
    app: FastAPI, user: FormBrowser, program: Program, auth: Auth, client: httpx.AsyncClient
) -> None:
    await signs_in(program, user)
    hint = program.tokens["id_token"]
    other = await someone_else(app)
    page = await other.open(logout_of(id_token_hint=hint, post_logout_redirect_uri=AFTER))
    assert "its id_token_hint is of another user" in page.text
    assert (await other.submit("logout")).path == "/account/sign-in"
    second = await registered(auth, client, post_logout_redirect_uris=[AFTER])
    mixed = logout_of(id_token_hint=hint, client_id=second.client_id, post_logout_redirect_uri=AFTER)
    page = await user.open(mixed)
    assert "its id_token_hint is of another client" in page.text
    twice = f"{logout_of(id_token_hint=hint, post_logout_redirect_uri=AFTER)}&state=1&state=2"
    assert "it has a parameter twice" in (await user.open(twice)).text


async def test_no_page_of_others_signs_a_user_out(user: FormBrowser, program: Program) -> None:
    """ASVS 3.5.1: a form of the client leads to the page, and one with a forged token is refused."""
    asked = {"client_id": program.client_id, "post_logout_redirect_uri": AFTER}
    elsewhere = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    sent = await user.client.post("/oauth/logout", data=asked, headers=elsewhere)
    assert (sent.status_code, sent.headers["location"]) == (303, logout_of(**asked))
    page = await user.open(sent.headers["location"])
    form = page.form("logout")
    assert page.answer.headers["x-frame-options"] == "DENY"
    own = {"Origin": "http://testserver", "Sec-Fetch-Site": "same-origin"}
    for hidden, headers in ((form.hidden, elsewhere), (form.hidden | {"csrf_token": "x"}, own)):
        refused = await user.client.post("/oauth/logout", data=hidden, headers=headers)
        assert refused.status_code == 403
    assert await is_signed_in(user)


async def test_who_is_signed_out_already_is_led_on(app: FastAPI, program: Program) -> None:
    asked = {"client_id": program.client_id, "post_logout_redirect_uri": AFTER, "state": "1"}
    stranger = browser_of(app)
    assert leads_to(await stranger.open(logout_of(**asked))) == f"{AFTER}?state=1"
    page = await stranger.open("/oauth/logout")
    assert "You are signed out." in page.text


# Set-up


@pytest.mark.parametrize("algorithm", ["HS256", "HS512"])
def test_the_start_refuses_a_key_that_other_apps_cannot_check_with(
    algorithm: str, settings: AuthSettings
) -> None:
    """OpenID Connect Core section 10.1: a shared secret would let each app sign for all."""
    settings.jwt_algorithm = algorithm  # type: ignore[assignment]
    server = OAuthServer(settings=openid_settings())
    with pytest.raises(ValueError, match="OAUTH_OPENID needs a key pair"):
        include_auth(FastAPI(), settings=settings, features=[server], pages=True)


def test_the_start_refuses_a_scope_of_the_app_that_is_one_of_openid_connect(settings: AuthSettings) -> None:
    scopes = {"email": "Send e-mail"}
    server = OAuthServer(resources=["/api"], scopes=scopes, settings=openid_settings())
    with pytest.raises(ValueError, match="email is a scope of OpenID Connect"):
        include_auth(FastAPI(), settings=settings, features=[server], pages=True)


async def test_without_the_setting_there_is_no_sign_in_to_other_apps(
    settings: AuthSettings, account: Account
) -> None:
    app = FastAPI()
    off = OAuthSettings(_env_file=None)  # type: ignore[call-arg]
    include_auth(
        app,
        settings=settings,
        features=[OAuthServer(resources=RESOURCES, scopes=SCOPES, settings=off)],
        pages=True,
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://testserver") as client:
        for path in (OPENID, "/oauth/userinfo", "/oauth/logout"):
            assert (await client.get(path)).status_code == 404, path
        server = (await client.get("/.well-known/oauth-authorization-server")).json()
        assert server["scopes_supported"] == [*SCOPES]
    bare = OAuthServer(settings=off)
    with pytest.raises(ValueError, match="OAuthServer needs resources"):
        include_auth(FastAPI(), settings=settings, features=[bare], pages=True)


@pytest.mark.parametrize("place", ["", "/shop"])
async def test_an_app_may_offer_the_sign_in_alone_also_below_a_path(
    place: str, settings: AuthSettings, clock: Clock, account: Account
) -> None:
    """Discovery section 4: the document is below the issuer, wherever a proxy takes the path off."""
    app = FastAPI()
    settings.public_base_url = f"https://id.example.com{place}"
    included = include_auth(
        app, settings=settings, clock=clock, features=[OAuthServer(settings=openid_settings())], pages=True
    )
    issuer = f"https://id.example.com{place}"
    made = await create_client(included, "Shop", [REDIRECT])
    user = browser_of(app, "https://id.example.com")
    await user.open("/account/sign-in")
    await user.submit("sign-in", email=EMAIL, password=PASSWORD)
    for path in {OPENID, f"{OPENID}{place}", f"{place}{OPENID}"}:
        found = (await user.client.get(path)).json()
        assert (found["issuer"], found["jwks_uri"]) == (issuer, f"{issuer}/.well-known/jwks.json"), path
        assert found["protected_resources"] == []
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=issuer[:22]) as client:
        program = Program(client, made.client.client_id)
        await program.connect(user, scope="openid email", resource=None)
        claims = await checked(program, program.tokens["id_token"], issuer)
        assert claims["email"] == EMAIL
        assert (await userinfo(program)).json()["sub"] == claims["sub"]
        nothing = answer_in(location_in(await program.ask(user, scope=None, resource=None)))
        assert nothing["error"] == "invalid_scope"


async def test_after_a_change_of_the_key_tokens_and_hints_of_both_are_good(
    user: FormBrowser, program: Program, settings: AuthSettings
) -> None:
    await signs_in(program, user)
    former = program.tokens["id_token"]
    settings.jwt_previous_keys = [public_pem_of(EC)]
    settings.jwt_private_key = pem_of(OTHER_EC)
    await checked(program, former)
    await signs_in(program, user)
    now = program.tokens["id_token"]
    assert jwt.get_unverified_header(now)["kid"] != jwt.get_unverified_header(former)["kid"]
    for hint in (former, now):
        page = await user.open(logout_of(id_token_hint=hint, post_logout_redirect_uri=AFTER))
        assert page.form("logout").hidden["post_logout_redirect_uri"] == AFTER
    settings.jwt_previous_keys = []
    page = await user.open(logout_of(id_token_hint=former, post_logout_redirect_uri=AFTER))
    assert "is not an ID token of this server" in page.text


async def test_a_code_of_before_the_sign_in_was_on_still_gets_its_tokens(
    user: FormBrowser, program: Program
) -> None:
    """A rolling deploy: it is bound to no sign-in."""
    code = await program.code(user, scope="openid", resource=None)
    row = await OAuthToken.get(kind="code")
    bound = json.loads(str(row.details))
    kept = {name: bound[name] for name in ("redirect_uri", "code_challenge")}
    await OAuthToken.filter(id=row.id).update(details=json.dumps(kept))
    tokens = (await program.exchange(code)).json()
    assert "auth_time" not in await checked(program, tokens["id_token"])
    assert timedelta(seconds=tokens["expires_in"]) == timedelta(hours=1)
