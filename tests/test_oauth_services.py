"""Access tokens for other services, which check them by the public keys of the app (RFC 9068), and what those
ask the app about them (RFC 7662)."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI
from joserfc import jwt
from joserfc.jwk import ECKey

from fastapi_pluggable_auth import Auth, AuthSettings, CurrentUser, include_auth
from fastapi_pluggable_auth.features import (
    OAuthServer,
    PersonalTokens,
    require_client,
    verify_oauth_token,
)
from fastapi_pluggable_auth.features.oauth_server.client_routes import ClientAccess
from fastapi_pluggable_auth.features.oauth_server.clients import disable_client, rotate_secret
from fastapi_pluggable_auth.features.oauth_server.models import (
    AUTHORIZATION_CODE,
    CLIENT_CREDENTIALS,
    DOCUMENT,
    REGISTERED,
    digest_of,
)
from fastapi_pluggable_auth.features.oauth_server.settings import OAuthSettings
from fastapi_pluggable_auth.models import OAuthClient, OAuthToken, User
from fastapi_pluggable_auth.security.keys import key_set

from .conftest import Account, Clock, claims_of
from .form_browser import FormBrowser
from .oauth_program import (
    ISSUER,
    RESOURCES,
    SCOPES,
    Program,
    add_notes,
    answer_in,
    location_in,
    registered,
    signed_in,
)
from .test_example_services import signed_by_hand
from .test_keys import EC, pem_of

DIALECTS = ("sqlite",)
BILLING, PRINTER = "https://billing.example.com", "http://localhost:9100/print"


@pytest.fixture
def oauth() -> OAuthSettings:
    return OAuthSettings(_env_file=None, oauth_openid=True)  # type: ignore[call-arg]


@pytest.fixture
def app(settings: AuthSettings, clock: Clock, oauth: OAuthSettings) -> FastAPI:
    settings.jwt_algorithm, settings.jwt_private_key = "ES256", pem_of(EC)
    app = FastAPI()
    server = OAuthServer(resources=[*RESOURCES, BILLING, PRINTER], scopes=SCOPES, settings=oauth)
    features = [server, PersonalTokens(scopes=SCOPES)]
    include_auth(app, settings=settings, clock=clock, features=features, pages=True)
    add_notes(app)

    @app.get("/me")
    async def me(user: CurrentUser) -> str:
        return str(user.email)

    @app.get("/api/job")
    async def job(client: Annotated[ClientAccess, Depends(require_client(scope="notes:read"))]) -> str:
        return client.client_id

    return app


@pytest.fixture
async def user(app: FastAPI, account: Account) -> FormBrowser:
    return await signed_in(app, account)


@pytest.fixture
async def program(auth: Auth, client: httpx.AsyncClient) -> Program:
    """A public client."""
    return await registered(auth, client)


@pytest.fixture
async def service(auth: Auth, client: httpx.AsyncClient) -> Program:
    """One of the operator's own, with a secret."""
    kinds = [AUTHORIZATION_CODE, CLIENT_CREDENTIALS]
    return await registered(auth, client, confidential=True, grant_types=kinds)


async def said_of(service: Program, token: str) -> dict[str, Any]:
    """What the app says of a token."""
    answer = await service.post("/oauth/introspect", token=token)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    said: dict[str, Any] = answer.json()
    return said


async def test_a_service_reads_in_the_token_what_it_needs_by_the_public_keys_alone(
    user: FormBrowser, program: Program, client: httpx.AsyncClient, account: Account, clock: Clock
) -> None:
    """RFC 9068 sections 2.1, 2.2 and 4; ASVS V10.3.1."""
    tokens = await program.connect(user, resource=BILLING)
    assert (tokens["token_type"], tokens["expires_in"], tokens["scope"]) == ("Bearer", 600, "notes:read")
    (published,) = (await client.get("/.well-known/jwks.json")).json()["keys"]
    found = jwt.decode(tokens["access_token"], ECKey.import_key(published), algorithms=["ES256"])
    assert found.header["typ"] == "at+jwt"
    owner, jti = await User.get(email=account.email), found.claims.pop("jti")
    row = await OAuthToken.get(digest=jti, kind="access")
    now = int(row.created_at.timestamp())
    assert 0 <= clock().timestamp() - now < 30
    assert found.claims == {
        "iss": ISSUER,
        "aud": BILLING,
        "sub": str(owner.id),
        "client_id": program.client_id,
        "scope": "notes:read",
        "iat": now,
        "exp": now + 600,
    }
    server = (await client.get("/.well-known/oauth-authorization-server")).json()
    assert server["issuer"] == found.claims["iss"]
    assert server["introspection_endpoint"] == f"{ISSUER}/oauth/introspect"
    methods = ["client_secret_basic", "client_secret_post"]
    assert server["introspection_endpoint_auth_methods_supported"] == methods
    assert "client_credentials" in server["grant_types_supported"]
    assert {BILLING, PRINTER, f"{ISSUER}/api"} <= {*server["protected_resources"]}


async def test_a_token_is_for_this_app_or_for_one_other_service(user: FormBrowser, program: Program) -> None:
    """RFC 8707 section 2.2, RFC 9700 section 2.3: a service can use what it gets nowhere else."""
    api = f"{ISSUER}/api"
    asked = f"{program.address(resource=BILLING)}&resource={api}&resource={PRINTER}"

    async def code() -> str:
        await user.open(f"{asked}&prompt=consent")
        return answer_in(location_in(await user.submit("authorize", decision="allow")))["code"]

    for mixed in ([api, BILLING], [BILLING, PRINTER], [f"{BILLING}/other"], ["https://evil.example"]):
        answer = await program.exchange(await code(), resource=mixed)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_target"), mixed
    assert (await program.exchange(await code())).json()["access_token"].startswith("oat_")
    assert (await program.get()).status_code == 200
    for each in (BILLING, PRINTER, BILLING.upper().replace("HTTPS", "https") + "/"):
        answer = await program.refresh(resource=each)
        assert claims_of(answer.json()["access_token"])["aud"] == each.lower().rstrip("/")
    assert (await program.refresh()).json()["access_token"].startswith("oat_")
    assert (await program.refresh(resource=[BILLING, PRINTER])).json()["error"] == "invalid_target"


async def test_who_names_no_resource_gets_a_token_for_this_app_unless_only_a_service_was_allowed(
    user: FormBrowser, program: Program
) -> None:
    tokens = await program.connect(user, resource=None)
    assert tokens["access_token"].startswith("oat_")
    assert (await program.refresh(resource=BILLING)).json()["error"] == "invalid_target"
    await program.connect(user, resource=BILLING)
    assert claims_of(program.tokens["access_token"])["aud"] == BILLING
    assert claims_of((await program.refresh()).json()["access_token"])["aud"] == BILLING
    assert (await program.refresh(resource=f"{ISSUER}/api")).json()["error"] == "invalid_target"


async def test_a_retry_gets_a_token_with_the_same_claims_and_a_later_one_ends_the_grant(
    user: FormBrowser, program: Program, service: Program, clock: Clock, settings: AuthSettings
) -> None:
    """RFC 9700 section 4.14.2: the app does not see whether a service was shown what came of the first, and
    whoever has stolen it would go along until its client comes back."""
    first = (await program.connect(user, resource=BILLING))["refresh_token"]
    clock.advance(seconds=30)
    once = (await program.refresh(first)).json()
    clock.advance(seconds=1)
    again = (await program.refresh(first)).json()
    assert claims_of(again["access_token"]) == claims_of(once["access_token"])
    assert again["refresh_token"] == once["refresh_token"]
    assert 590 < again["expires_in"] < 600
    clock.advance(seconds=settings.refresh_reuse_leeway.total_seconds() + 1)
    assert (await program.refresh(first)).json()["error"] == "invalid_grant"
    assert await said_of(service, once["access_token"]) == {"active": False}
    assert (await program.refresh(once["refresh_token"])).json()["error"] == "invalid_grant"


async def test_a_service_token_lives_as_its_setting_says_and_no_longer_than_the_grant(
    user: FormBrowser, program: Program, oauth: OAuthSettings, service: Program, clock: Clock
) -> None:
    oauth.oauth_service_token_expires = timedelta(minutes=2)
    tokens = await program.connect(user, resource=BILLING)
    assert tokens["expires_in"] == 120
    clock.advance(seconds=100)
    assert (await said_of(service, tokens["access_token"]))["active"]
    clock.advance(seconds=20)
    assert await said_of(service, tokens["access_token"]) == {"active": False}
    oauth.oauth_grant_max_age = timedelta(minutes=3)
    assert (await program.refresh()).json()["expires_in"] <= 60


async def test_a_service_learns_what_a_token_is_good_for(
    user: FormBrowser, program: Program, service: Program, account: Account, clock: Clock
) -> None:
    """RFC 7662 section 2.2."""
    owner = await User.get(email=account.email)
    same = {"active": True, "iss": ISSUER, "token_type": "Bearer", "scope": "notes:read"}
    of_user = {**same, "client_id": program.client_id, "sub": str(owner.id)}
    signed = (await program.connect(user, resource=BILLING))["access_token"]
    said = await said_of(service, signed)
    begun = said.pop("iat")
    assert 0 <= clock().timestamp() - begun < 30
    assert said == {**of_user, "aud": BILLING, "exp": begun + 600, "jti": claims_of(signed)["jti"]}
    said["iat"] = begun
    assert {name: said[name] for name in claims_of(signed)} == claims_of(signed)
    opaque = (await program.connect(user))["access_token"]
    said = await said_of(service, opaque)
    assert said.pop("jti")
    assert said == {**of_user, "aud": f"{ISSUER}/api", "exp": said.pop("iat") + 3600}
    both = (await program.connect(user, resource=None))["access_token"]
    assert (await said_of(service, both))["aud"] == [f"{ISSUER}/api", f"{ISSUER}/mcp"]


async def test_what_ended_is_not_active_at_once(
    user: FormBrowser, program: Program, service: Program, auth: Auth, account: Account
) -> None:
    """RFC 7009 section 2, RFC 7662 section 2.2."""
    for resource in (BILLING, f"{ISSUER}/api"):
        token = (await program.connect(user, resource=resource))["access_token"]
        assert (await program.revoke(token)).status_code == 200
        assert await said_of(service, token) == {"active": False}
        assert (await program.refresh()).status_code == 200  # the grant goes on
        token = program.tokens["access_token"]
        assert (await program.revoke(program.tokens["refresh_token"])).status_code == 200
        assert await said_of(service, token) == {"active": False}
        token = (await program.connect(user, resource=resource))["access_token"]
        await User.filter(email=account.email).update(is_active=False)
        assert await said_of(service, token) == {"active": False}
        await User.filter(email=account.email).update(is_active=True)
        assert (await said_of(service, token))["active"]
    own = (await service.post("/oauth/token", grant_type="client_credentials", resource=BILLING)).json()
    await disable_client(auth, program.client_id)
    assert await said_of(service, token) == {"active": False}
    assert (await said_of(service, own["access_token"]))["active"]
    await disable_client(auth, service.client_id)
    assert (await service.post("/oauth/introspect", token=token)).json()["error"] == "invalid_client"


async def test_no_client_ends_the_token_of_another(
    user: FormBrowser, program: Program, service: Program
) -> None:
    """RFC 7009 section 2.1."""
    token = (await program.connect(user, resource=BILLING))["access_token"]
    assert (await service.revoke(token)).json()["error"] == "invalid_grant"
    own = (await service.post("/oauth/token", grant_type="client_credentials")).json()["access_token"]
    assert (await program.revoke(own)).json()["error"] == "invalid_grant"
    assert (await said_of(service, token))["active"]
    assert (await said_of(service, own))["active"]
    assert (await service.revoke(own)).status_code == 200
    assert await said_of(service, own) == {"active": False}


async def test_only_services_of_the_operator_ask_about_tokens(
    user: FormBrowser, program: Program, auth: Auth, client: httpx.AsyncClient, clock: Clock
) -> None:
    """RFC 7662 section 2.1: else anybody could try which tokens are good."""
    token = (await program.connect(user))["access_token"]
    address, now = "https://app.example.com/client", clock()
    await OAuthClient.create(
        client_id=address,
        digest=digest_of(address),
        name="Desk",
        origin=DOCUMENT,
        fetched_at=now,
        fresh_until=now + timedelta(hours=1),
    )
    registered_itself = await registered(auth, client, confidential=True)
    await OAuthClient.filter(client_id=registered_itself.client_id).update(origin=REGISTERED)
    for asking in (program, Program(client, address), registered_itself):
        answer = await asking.post("/oauth/introspect", token=token)
        assert (answer.status_code, answer.json()["error"]) == (400, "unauthorized_client")


async def test_a_wrong_request_about_a_token_is_refused(program: Program, service: Program) -> None:
    for secret, status, error in (("ocs_wrong", 401, "invalid_client"), (None, 401, "invalid_client")):
        other = Program(service.http, service.client_id, secret)
        answer = await other.post("/oauth/introspect", token="x")
        assert (answer.status_code, answer.json()["error"]) == (status, error)
    answer = await service.post("/oauth/introspect")
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    basic = b64encode(f"{service.client_id}:{service.secret}".encode()).decode()
    answer = await service.http.post(
        "/oauth/introspect", data={"token": "x"}, headers={"Authorization": f"Basic {basic}"}
    )
    assert (answer.status_code, answer.json()) == (200, {"active": False})
    both = f"token=x&token=y&client_id={service.client_id}&client_secret={service.secret}"
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await service.http.post("/oauth/introspect", content=both, headers=kind)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    for junk in ("x" * 9000, "\u00e9\U0001f511", "a.b.c", "'--", "e30.e30.e30"):
        assert await said_of(service, junk) == {"active": False}
    assert (await service.http.get("/oauth/introspect")).status_code == 405


async def test_a_token_that_was_made_up_is_nowhere_good(
    user: FormBrowser, program: Program, service: Program, client: httpx.AsyncClient, settings: AuthSettings
) -> None:
    """RFC 8725 sections 2.1, 3.1 and 3.11: another algorithm, the public key as a secret, another type."""
    good = (await program.connect(user, resource=BILLING))["access_token"]
    claims, keys = claims_of(good), key_set(settings)
    key = ECKey.import_key(pem_of(EC))
    header = {"alg": "ES256", "typ": "at+jwt", "kid": keys.signing_id}
    public = ECKey.import_key(key.as_dict(private=False))

    def without(*names: str, **changed: Any) -> str:
        kept = {name: value for name, value in {**claims, **changed}.items() if name not in names}
        return keys.sign(kept, "at+jwt")

    forged = {
        "unsigned": signed_by_hand({**header, "alg": "none"}, claims, None),
        "public key as secret": signed_by_hand({**header, "alg": "HS256"}, claims, public.as_pem()),
        "another key": jwt.encode(header, claims, ECKey.generate_key("P-256")),
        "a key of its own": jwt.encode(
            {"alg": "ES256", "typ": "at+jwt", "kid": "x"}, claims, ECKey.generate_key("P-256")
        ),
        "another type": keys.sign(claims, "JWT"),
        "no client": without("client_id"),
        "no id": without("jti"),
        "another id": without(jti="0" * 64),
        "an id that is none": without(jti=["x"]),
        "another issuer": without(iss="https://evil.example"),
        "another audience": without(aud="https://evil.example"),
        "several audiences": without(aud=[BILLING, PRINTER]),
        "our own audience": without(aud=settings.audience),
        "the digest alone": claims["jti"],
    }
    for name, token in forged.items():
        assert await said_of(service, token) == {"active": False}, name
        assert (await service.revoke(token)).status_code == 200, name
        for path in ("/me", "/api/notes", "/api/job"):
            assert (await program.get(path, token)).status_code == 401, (name, path)
    assert (await said_of(service, without()))["active"]  # the same, signed anew


@dataclass
class Kinds:
    """A token of each kind, all good."""

    tokens: dict[str, str]
    program: Program
    service: Program


@pytest.fixture
async def kinds(
    user: FormBrowser,
    program: Program,
    service: Program,
    account: Account,
    client: httpx.AsyncClient,
    settings: AuthSettings,
) -> Kinds:
    personal = await client.post(
        "/account/tokens", json={"name": "x", "scopes": ["notes:read"]}, headers=account.headers
    )
    code = await program.code(user)
    opaque = await Program(client, program.client_id).connect(user)
    signed = await Program(client, program.client_id).connect(user, resource=BILLING)
    own, at_service = [
        (await service.post("/oauth/token", grant_type="client_credentials", resource=each)).json()
        for each in (f"{ISSUER}/api", BILLING)
    ]
    claims = {**claims_of(signed["access_token"]), "aud": program.client_id, "nonce": "n"}
    del claims["client_id"]
    tokens = {
        "session": account.access_token,
        "session refresh": account.refresh_token,
        "personal": personal.json()["token"],
        "code": code,
        "access": opaque["access_token"],
        "refresh": opaque["refresh_token"],
        "service": signed["access_token"],
        "client": own["access_token"],
        "client at a service": at_service["access_token"],
        "id_token": key_set(settings).sign(claims, "JWT"),
        "id_token of the wrong type": key_set(settings).sign(claims, "at+jwt"),
    }
    return Kinds(tokens, program, service)


GOOD_AT = {
    "session": {"user", "scope"},
    "session refresh": {"session refresh"},
    "personal": {"scope"},
    "code": {"code"},
    "access": {"scope", "introspection", "verification"},
    "refresh": {"refresh"},
    "service": {"introspection"},
    "client": {"client", "introspection"},
    "client at a service": {"introspection"},
    "id_token": set(),
    "id_token of the wrong type": set(),
}


@pytest.mark.parametrize("kind", GOOD_AT)
async def test_no_token_of_one_kind_is_good_in_the_place_of_another(
    kinds: Kinds, kind: str, account: Account, auth: Auth
) -> None:
    """RFC 8725 sections 3.11 and 3.12, RFC 9068 sections 2.1 and 4, RFC 9700 section 4.10; ASVS V9.2.2,
    V9.2.3 and V10.3.1."""
    token, program = kinds.tokens[kind], kinds.program
    answers = {
        "user": (await program.get("/me", token)).status_code,
        "scope": (await program.get("/api/notes", token)).status_code,
        "client": (await program.get("/api/job", token)).status_code,
        "userinfo": (await program.get("/oauth/userinfo", token)).status_code,
        "session refresh": (await account.refresh(token)).status_code,
        "refresh": (await program.refresh(token)).status_code,
    }
    good = {place for place, status in answers.items() if status == 200}
    if (await said_of(kinds.service, token))["active"]:
        good.add("introspection")
    if await verify_oauth_token(auth, token, "/api") is not None:
        good.add("verification")
    if (await program.exchange(token)).status_code == 200:
        good.add("code")
    assert good == GOOD_AT[kind]
    assert {*answers.values()} <= {200, 400, 401, 403}


@pytest.mark.parametrize("kind", GOOD_AT)
async def test_who_gives_a_token_back_ends_nothing_of_another_kind(
    kinds: Kinds, kind: str, account: Account
) -> None:
    """RFC 7009 section 2.1."""
    for client in (kinds.program, kinds.service):
        assert (await client.revoke(kinds.tokens[kind])).status_code in (200, 400)
    tokens, program = kinds.tokens, kinds.program
    assert (await program.get("/me", tokens["session"])).status_code == 200
    assert (await program.get("/api/notes", tokens["personal"])).status_code == 200
    assert (await account.refresh()).status_code == 200
    for each in ("access", "service", "client", "client at a service"):
        ended = each == kind or (kind, each) == ("refresh", "access")
        assert (await said_of(kinds.service, tokens[each]))["active"] is not ended, each
    assert (await program.exchange(tokens["code"])).status_code == 200


async def test_a_token_at_rest_is_no_token(
    user: FormBrowser, program: Program, service: Program, auth: Auth
) -> None:
    """What is stored of a service's token is its `jti`, and what makes that is shown to nobody."""
    token = (await program.connect(user, resource=BILLING))["access_token"]
    row = await OAuthToken.get(digest=claims_of(token)["jti"])
    assert digest_of(token) != row.digest
    assert token not in str(vars(row))
    for shown in (row.digest, f"oat_{row.digest[:43]}"):
        assert (await program.get("/api/notes", shown)).status_code == 401
        assert await said_of(service, shown) == {"active": False}


@pytest.mark.parametrize(
    ("resource", "said"),
    [
        ("http://billing.example.com", "is http"),
        ("ftp://billing.example.com", "scheme"),
        ("com.example://localhost", "not https"),
        ("https://billing.example.com/", "write 'https://billing.example.com'"),
        ("https://Billing.example.com", "write 'https://billing.example.com'"),
        ("https://billing.example.com:443", "write 'https://billing.example.com'"),
        ("https://billing.example.com?a=b", "query"),
        ("https://billing.example.com#a", "not an address"),
        ("https://user@billing.example.com", "user name"),
        ("https://", "names no host"),
        ("https://*.example.com", "not an address"),
    ],
)
def test_a_service_is_named_by_its_https_address(resource: str, said: str) -> None:
    """RFC 8707 section 2."""
    with pytest.raises(ValueError, match=said):
        OAuthServer(resources=[resource], scopes=SCOPES)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"jwt_algorithm": "HS256"}, "JWT_ALGORITHM is HS256"),
        ({"jwt_audience": BILLING}, "audience of the app's own sessions"),
        ({"jwt_audience": f"{BILLING}/"}, "audience of the app's own sessions"),
        ({"public_base_url": f"{BILLING}/auth"}, "is of this app"),
    ],
)
def test_an_app_whose_services_could_not_tell_tokens_apart_does_not_start(
    settings: AuthSettings, changed: dict[str, str], said: str
) -> None:
    """RFC 9068 section 5, RFC 8725 section 3.9: nobody outside may know what makes signatures, and no session
    has the audience of a service."""
    settings.jwt_algorithm, settings.jwt_private_key = "ES256", pem_of(EC)
    for name, value in changed.items():
        setattr(settings, name, value)
    server = OAuthServer(resources=["/api", BILLING], scopes=SCOPES)
    with pytest.raises(ValueError, match=said):
        include_auth(FastAPI(), settings=settings, features=[server], pages=True)


async def test_a_client_that_acts_for_itself_has_no_scope_that_is_about_a_user(
    service: Program, program: Program
) -> None:
    """OpenID Connect Core section 5.3: userinfo is of a user."""
    for scope in ("openid", "openid notes:read", "email"):
        answer = await service.post("/oauth/token", grant_type="client_credentials", scope=scope)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_scope"), scope
    tokens = (await service.post("/oauth/token", grant_type="client_credentials")).json()
    assert tokens["scope"] == "notes:read notes:write"
    assert (await program.get("/oauth/userinfo", tokens["access_token"])).status_code == 401


async def test_a_session_of_an_app_whose_issuer_is_another_is_no_token_of_a_service(
    user: FormBrowser, program: Program, service: Program, settings: AuthSettings, account: Account
) -> None:
    """The issuer of OAuth tokens is that of the metadata (RFC 9068 section 4), whatever JWT_ISSUER says."""
    token = (await program.connect(user, resource=BILLING))["access_token"]
    settings.jwt_issuer = "accounts"
    assert (await said_of(service, token))["active"]
    assert await said_of(service, account.access_token) == {"active": False}


async def test_who_loses_a_secret_gets_another_and_what_was_got_by_it_ends(
    service: Program, auth: Auth, program: Program
) -> None:
    own = (await service.post("/oauth/token", grant_type="client_credentials")).json()["access_token"]
    service.secret = (await rotate_secret(auth, service.client_id)).secret
    assert await said_of(service, own) == {"active": False}
    assert (await service.post("/oauth/token", grant_type="client_credentials")).status_code == 200
