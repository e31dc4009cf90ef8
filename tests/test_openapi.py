"""The OpenAPI document: names that clients are generated from."""

from __future__ import annotations

import pickle
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Security
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from openapi_spec_validator import OpenAPIV31SpecValidator, validate
from pydantic import BaseModel, create_model
from tortoise.context import TortoiseContext

from fastapi_pluggable_auth import (
    AuthError,
    AuthSettings,
    Challenge,
    CurrentUser,
    OptionalUser,
    get_current_user,
    include_auth,
    open_session,
    require,
    schemas,
)
from fastapi_pluggable_auth.dependencies import SignedIn
from fastapi_pluggable_auth.features import (
    Administration,
    AuditLog,
    BotCheck,
    EmailSignIn,
    OAuthServer,
    Oidc,
    Passkeys,
    PersonalTokens,
    SocialLogin,
    Turnstile,
)
from fastapi_pluggable_auth.features.administration import schemas as admin_schemas
from fastapi_pluggable_auth.features.audit_log import schemas as audit_schemas
from fastapi_pluggable_auth.features.bot_check.checking import BotChecker
from fastapi_pluggable_auth.features.bot_check.testing import FakeBotCheck
from fastapi_pluggable_auth.features.email_sign_in import schemas as email_sign_in_schemas
from fastapi_pluggable_auth.features.oauth_server import schemas as oauth_schemas
from fastapi_pluggable_auth.features.oauth_server.settings import OAuthSettings
from fastapi_pluggable_auth.features.passkeys import schemas as passkey_schemas
from fastapi_pluggable_auth.features.personal_tokens import schemas as token_schemas
from fastapi_pluggable_auth.features.social_login import schemas as social_schemas
from fastapi_pluggable_auth.features.two_factor import schemas as two_factor_schemas
from fastapi_pluggable_auth.http.route import AuthRoute
from fastapi_pluggable_auth.schemas import UserCreate, UserOut
from fastapi_pluggable_auth.security.hashing import hash_password

from .conftest import Mailbox
from .test_keys import EC, pem_of

DIALECTS = ("sqlite",)


def with_everything(settings: AuthSettings, app: FastAPI, **options: Any) -> FastAPI:
    """The app with every route that there is."""
    update = {
        "cookies": True,
        "dev_mailbox": True,
        "email_provider": "memory",
        "jwt_algorithm": "ES256",
        "jwt_private_key": pem_of(EC),
    }
    chosen = settings.model_copy(update=update)
    features = [Administration(), PersonalTokens(scopes={"notes:read": "Read"}), AuditLog(), Passkeys()]
    acme = Oidc("acme", issuer="https://acme.example", client_id="app")
    features += [SocialLogin(acme), EmailSignIn(), BotCheck(Turnstile("site", "secret"))]
    oauth = OAuthSettings(_env_file=None, oauth_registration=True, oauth_openid=True)  # type: ignore[call-arg]
    features.append(OAuthServer(resources=["/api", "/mcp"], settings=oauth))
    include_auth(app, settings=chosen, pages=True, features=features, **options)
    return app


RECIPES: dict[str, Callable[[APIRoute], str]] = {
    "tag and name, as FastAPI's documentation has it": lambda route: f"{route.tags[0]}-{route.name}",
    "name alone": lambda route: route.name,
}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
async def test_ids_made_of_a_tag_or_a_name_are_there_for_every_route_and_differ(
    settings: AuthSettings, tortoise: TortoiseContext, recipe: Callable[[APIRoute], str]
) -> None:
    app = with_everything(settings, FastAPI(generate_unique_id_function=recipe))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        answer = await client.get("/openapi.json")
        hidden = await client.get("/account/sign-in", headers={"Accept": "text/html"})
    assert (answer.status_code, hidden.status_code) == (200, 200)
    ids = [
        operation["operationId"] for path in answer.json()["paths"].values() for operation in path.values()
    ]
    made = [route.unique_id for route in app.routes if isinstance(route, APIRoute)]
    assert len(ids) > 40
    assert len(made) > 60  # those that no document shows as well
    assert [name for name, count in Counter(ids).items() if count > 1] == []
    assert [name for name, count in Counter(made).items() if count > 1] == []


OURS = {
    name: model
    for module in (
        schemas,
        admin_schemas,
        audit_schemas,
        passkey_schemas,
        social_schemas,
        email_sign_in_schemas,
        token_schemas,
        oauth_schemas,
        two_factor_schemas,
    )
    for name, model in vars(module).items()
    if isinstance(model, type) and issubclass(model, schemas.Schema) and model.__name__ == name != "_Columns"
}


def host_of(*, names: Iterable[str]) -> FastAPI:
    """A host app with bodies of these names."""
    app = FastAPI()
    for name in names:
        body = create_model(name, host_field=(int, ...), __module__="host.models")

        async def route(body: Any) -> Any: ...

        route.__annotations__ = {"body": body, "return": list[body]}
        app.post(f"/host/{name}")(route)
    return app


def test_a_model_of_the_host_keeps_its_name_whatever_a_body_of_the_package_is_called(
    settings: AuthSettings,
) -> None:
    """FastAPI would call both by their module's path, and clients generated from it would change."""
    assert {"UserCreate", "UserOut", "TokenPair", "Message", "Error", "LoginData"} <= OURS.keys()
    plain = host_of(names=OURS).openapi()
    both = with_everything(settings, host_of(names=OURS)).openapi()
    for name in OURS:
        assert both["paths"][f"/host/{name}"] == plain["paths"][f"/host/{name}"]
        assert both["components"]["schemas"][name] == plain["components"]["schemas"][name]
    assert not [name for name in both["components"]["schemas"] if "__" in name]
    titles = [schema["title"] for schema in both["components"]["schemas"].values()]
    assert len(titles) == len({*titles})


def test_names_of_our_bodies_do_not_depend_on_those_of_the_host(settings: AuthSettings) -> None:
    alone = with_everything(settings, FastAPI()).openapi()
    both = with_everything(settings, host_of(names=OURS)).openapi()
    for path, operations in alone["paths"].items():
        assert both["paths"][path] == operations


def test_the_document_is_valid_and_generators_make_a_class_of_its_own_of_each_name(
    settings: AuthSettings,
) -> None:
    """Most generators write `Auth-Error` as `AuthError`."""
    document = with_everything(settings, host_of(names=OURS)).openapi()
    validate(document, cls=OpenAPIV31SpecValidator)
    for kind in document["components"].values():
        made = Counter(re.sub("[^a-z0-9]", "", name.lower()) for name in kind)
        assert [name for name, count in made.items() if count > 1] == []


def test_bodies_of_the_host_have_the_names_that_it_gave_them(settings: AuthSettings) -> None:
    class NewUser(UserCreate):
        pass

    class Message(UserOut):
        pass

    app = FastAPI()
    include_auth(app, settings=settings, user_create=NewUser, user_out=Message)
    shown = app.openapi()["components"]["schemas"]
    assert (shown["NewUser"]["title"], shown["Message"]["title"]) == ("NewUser", "Message")


@pytest.mark.parametrize("model", OURS.values(), ids=OURS)
def test_bodies_can_be_pickled_and_are_called_by_their_python_names(model: type[BaseModel]) -> None:
    assert pickle.loads(pickle.dumps(model)) is model  # noqa: S301
    assert repr(model.model_construct()).startswith(f"{model.__name__}(")


def dependencies_of(dependant: Dependant) -> Iterator[Any]:
    """What a route depends on, and what that does."""
    for each in dependant.dependencies:
        yield each.call
        yield from dependencies_of(each)


def test_each_route_documents_what_its_dependencies_refuse_with(settings: AuthSettings) -> None:
    demands = 0
    for route in with_everything(settings, FastAPI()).routes:
        if not (isinstance(route, APIRoute) and route.include_in_schema):
            continue
        said = " ".join(str(answer["description"]) for answer in route.responses.values())
        for dependency in dependencies_of(route.dependant):
            for demand in dependency.demands if isinstance(dependency, SignedIn) else ():
                demands += 1
                assert not [code for code in demand.codes if f"`{code.code}`" not in said], route.path
    assert demands > 40


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path and what the document says of each route."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def test_each_route_has_a_written_summary_and_description_and_its_tag_says_what_it_is(
    settings: AuthSettings,
) -> None:
    app = with_everything(settings, FastAPI())
    shown = [route for route in app.routes if isinstance(route, AuthRoute) and route.include_in_schema]
    assert len(shown) > 40
    for route in shown:
        assert route.summary, route.path
        assert len(route.summary) < 50, route.path
        assert not route.summary.endswith("."), route.path
        assert len(route.description) > 10, route.path
    tags = {tag["name"]: tag["description"] for tag in app.openapi()["tags"]}
    assert {tag for _, _, operation in operations(app.openapi()) for tag in operation["tags"]} == tags.keys()
    assert all(said.endswith(".") for said in tags.values())


def test_ids_of_operations_are_short_and_the_same_under_every_prefix(settings: AuthSettings) -> None:
    plain = with_everything(settings, FastAPI()).openapi()
    elsewhere = settings.model_copy(update={"route_prefix": "/elsewhere"})
    moved = with_everything(elsewhere, FastAPI()).openapi()
    outer, inner = FastAPI(), FastAPI()
    with_everything(settings, outer)
    outer.mount("/inner", with_everything(settings, inner))
    ids = [operation["operationId"] for _, _, operation in operations(plain)]
    assert {"auth_login", "auth_signup", "account_get", "account_update", "admin_get_user"} <= {*ids}
    assert all(re.fullmatch("(auth|account|admin)_[a-z_]+", name) for name in ids)
    for document in (moved, inner.openapi(), outer.openapi()):
        assert [operation["operationId"] for _, _, operation in operations(document)] == ids
    assert len({*ids}) == len(ids)


HOSTS: dict[str, Any] = {"name": "notes", "description": "Notes of the host."}


def own_document(app: FastAPI) -> None:
    """FastAPI's recipe for a function of the host."""

    def openapi() -> dict[str, Any]:
        if not app.openapi_schema:
            made = get_openapi(
                title="Own",
                version="1",
                routes=app.routes,
                tags=[HOSTS, {"name": "auth", "description": "Mine"}],
            )
            made["info"]["x-logo"] = {"url": "https://host.example/logo.png"}
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_document_that_the_host_makes_itself_says_the_same_of_us(
    when: str, settings: AuthSettings, tortoise: TortoiseContext
) -> None:
    app = FastAPI()
    if when == "before":
        own_document(app)
    with_everything(settings, app)
    if when == "after":
        own_document(app)

    @app.get("/notes", tags=["notes"])
    async def notes(user: CurrentUser) -> None: ...

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        documents = [(await client.get("/openapi.json")).json() for _ in range(2)]
    assert documents[0] == documents[1]
    document = documents[0]
    assert (document["info"]["title"], document["info"]["x-logo"]) == (
        "Own",
        {"url": "https://host.example/logo.png"},
    )
    names = [tag["name"] for tag in document["tags"]]
    assert document["tags"][:2] == [HOSTS, {"name": "auth", "description": "Mine"}]
    assert len({*names}) == len(names) > 5
    assert {"401", "403"} <= document["paths"]["/notes"]["get"]["responses"].keys()


def test_tags_of_routes_that_the_document_does_not_show_are_not_in_it(settings: AuthSettings) -> None:
    assert "tags" not in with_everything(settings, FastAPI(include_in_schema=False)).openapi()


async def of_mine(user: CurrentUser) -> str:
    """A dependency of the host that asks for the user."""
    return user.email


def guarded_host(settings: AuthSettings, **options: Any) -> FastAPI:
    """An app whose routes depend on the user in each way that there is."""
    app, router = FastAPI(), APIRouter(prefix="/inner", dependencies=[Depends(require(role="editor"))])
    include_auth(app, settings=settings, **options)

    @app.get("/current")
    async def current(user: CurrentUser) -> None: ...

    @app.post("/changing")
    async def changing(email: Annotated[str, Depends(of_mine)]) -> None: ...

    @app.get("/optional")
    async def optional(user: OptionalUser) -> None: ...

    @app.get("/verified", dependencies=[Depends(require(verified=True, recent=True))])
    async def verified() -> None: ...

    @app.get("/scoped", dependencies=[Security(get_current_user, scopes=["reports"])])
    async def scoped() -> None: ...

    @app.get("/said", responses={401: {"description": "Mine", "content": {"text/plain": {}}}})
    async def said(user: CurrentUser) -> None: ...

    @app.get("/open")
    async def open_to_all() -> None: ...

    @router.get("/routed")
    async def routed() -> None: ...

    app.include_router(router, prefix="/outer")
    return app


def codes_in(document: dict[str, Any], path: str, method: str = "get") -> dict[int, list[str]]:
    """The codes of the refusals that the document names, by status."""
    responses = document["paths"][path][method]["responses"]
    return {
        status: re.findall("^`([a-z_]+)`", responses[str(status)]["description"], re.MULTILINE)
        for status in (401, 403)
        if str(status) in responses
    }


NOBODY = ["not_authenticated", "invalid_token"]
ENROL = ["two_factor_enrolment_required", "step_up_required"]
REFUSED: dict[str, dict[int, list[str]]] = {
    "/current": {401: NOBODY, 403: ENROL},
    "/optional": {401: ["invalid_token"], 403: ENROL},
    "/verified": {
        401: NOBODY,
        403: [
            *ENROL,
            "verification_required",
            "reauthentication_required",
            "impersonation_forbidden",
        ],
    },
    "/scoped": {401: NOBODY, 403: [*ENROL, "insufficient_scope"]},
    "/outer/inner/routed": {401: NOBODY, 403: [*ENROL, "permission_denied"]},
    "/said": {401: [], 403: ENROL},
    "/open": {},
}


def test_routes_of_the_host_that_depend_on_the_user_document_how_they_refuse(settings: AuthSettings) -> None:
    document = guarded_host(settings).openapi()
    validate(document, cls=OpenAPIV31SpecValidator)
    for path, codes in REFUSED.items():
        assert codes_in(document, path) == codes, path
    assert codes_in(document, "/changing", "post") == {401: NOBODY, 403: ENROL}
    body = document["paths"]["/current"]["get"]["responses"]["401"]["content"]["application/json"]["schema"]
    assert body == {"$ref": "#/components/schemas/Auth-Error"}
    assert document["paths"]["/said"]["get"]["responses"]["401"] == {
        "description": "Mine",
        "content": {"text/plain": {}},
    }
    assert "401" not in document["paths"]["/open"]["get"]["responses"]


def test_with_cookies_routes_of_the_host_document_the_refusals_of_browsers_too(
    settings: AuthSettings,
) -> None:
    document = guarded_host(settings.model_copy(update={"cookies": True})).openapi()
    assert codes_in(document, "/current") == {401: [*NOBODY, "refresh_raced"], 403: ENROL}
    changing = codes_in(document, "/changing", "post")
    assert changing == {401: [*NOBODY, "refresh_raced"], 403: ["csrf_refused", *ENROL]}


def test_routes_that_come_after_the_document_was_asked_for_document_their_refusals_too(
    settings: AuthSettings,
) -> None:
    app = guarded_host(settings)
    app.openapi()
    app.openapi_schema = None  # as FastAPI before it looked for new routes itself

    @app.get("/later")
    async def later(user: CurrentUser) -> None: ...

    assert codes_in(app.openapi(), "/later") == {401: NOBODY, 403: ENROL}


def test_the_body_of_errors_is_not_documented_where_the_host_answers_them_itself(
    settings: AuthSettings,
) -> None:
    app = guarded_host(settings)

    @app.exception_handler(AuthError)
    async def answer(*_: Any) -> Any: ...

    assert codes_in(app.openapi(), "/current") == {}


async def test_an_app_that_is_mounted_documents_the_refusals_of_its_routes(
    settings: AuthSettings, tortoise: TortoiseContext
) -> None:
    app, mounted = FastAPI(), FastAPI()
    include_auth(app, settings=settings)
    app.mount("/reports", mounted)

    @mounted.get("/monthly")
    async def monthly(user: CurrentUser) -> None: ...

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        document = (await client.get("/reports/openapi.json")).json()
    validate(document, cls=OpenAPIV31SpecValidator)
    assert codes_in(document, "/monthly") == {401: NOBODY, 403: ENROL}
    assert "tags" not in document


def test_an_app_with_accounts_of_its_own_documents_these_wherever_it_was_mounted_before(
    settings: AuthSettings,
) -> None:
    app, mounted = FastAPI(), FastAPI()
    app.mount("/inner", mounted)
    include_auth(app, settings=settings)
    address = {"public_base_url": f"{settings.public_base_url}/inner"}
    include_auth(mounted, settings=settings.model_copy(update=address))

    @mounted.get("/monthly")
    async def monthly(user: CurrentUser) -> None: ...

    for document, prefix in ((app.openapi(), ""), (mounted.openapi(), "/inner")):
        flow = document["components"]["securitySchemes"]["Auth-Login"]["flows"]["password"]
        assert flow["tokenUrl"] == f"{prefix}/auth/docs-login"


def test_no_field_with_a_default_is_one_that_generated_clients_have_to_send(settings: AuthSettings) -> None:
    """They take a default for a promise that the field is there, also in what they send."""
    document = with_everything(settings, FastAPI()).openapi()
    bodies = [
        part
        for path, method, operation in operations(document)
        for media in operation.get("requestBody", {}).get("content", {}).values()
        for part in parts(document, media["schema"])
    ]
    fields = [(name, field) for body in bodies for name, field in body.get("properties", {}).items()]
    assert {"superuser", "everywhere", "remember"} <= {name for name, _ in fields}
    assert [name for name, field in fields if "default" in field] == []


def resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """What a reference leads to."""
    found: dict[str, Any] = schema
    if "$ref" in schema:
        found = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return found


def parts(document: dict[str, Any], schema: dict[str, Any]) -> list[dict[str, Any]]:
    """What a value may be, one by one."""
    return [resolved(document, part) for part in schema.get("anyOf", [schema])]


NEEDS_NONE = ("uuid", "date-time")
"""Formats of which a tool makes a value that is right."""


def proposal(document: dict[str, Any], schema: dict[str, Any], name: str = "") -> Any:
    """What Swagger proposes. Fails for a text, or a lifetime, of which it would invent one."""
    schema = resolved(document, schema)
    if "examples" in schema:
        return schema["examples"][0]
    if "anyOf" in schema:
        return proposal(document, schema["anyOf"][0], name)
    if "const" in schema:
        return schema["const"]
    kind = schema["type"]
    if kind == "object":
        return {name: proposal(document, field, name) for name, field in schema.get("properties", {}).items()}
    if kind == "array":
        return [proposal(document, schema["items"], name)]
    assert kind in ("boolean", "integer") or schema.get("format") in NEEDS_NONE, name
    assert not name.startswith("expires"), name
    made = {"boolean": False, "integer": schema.get("default", 1)}
    return made.get(kind, "6f1cf5a0-b7e0-4f0d-9a3b-1d2c4e5f6071")


SUCCEEDS = {
    "/auth/login": 200,
    "/auth/reauthenticate": 200,
    "/auth/verify/resend": 200,
    "/auth/forgot-password": 200,
    "/account": 200,
    "/account/change-password": 204,
    "/account/tokens": 201,
}
"""What an account with the proposed address and password may do at once; all else takes a token, a code or an
id that the app gave."""


async def test_what_the_document_proposes_is_valid_for_each_route_and_works_where_it_can(
    settings: AuthSettings, tortoise: TortoiseContext, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue 20: Swagger made texts up, and passwords that are refused."""
    app = with_everything(settings, FastAPI())
    auth, document = app.state.pluggable_auth, app.openapi()
    monkeypatch.setattr(auth.service(BotChecker), "require_human", FakeBotCheck().require_human)
    users, hashed = auth.tables.user, hash_password("correct horse battery")
    fields = 0

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:

        async def answer(method: str, path: str, operation: dict[str, Any], token: str) -> httpx.Response:
            nonlocal fields
            body, query = None, {}
            if "requestBody" in operation:
                (schema, *_) = parts(
                    document, operation["requestBody"]["content"]["application/json"]["schema"]
                )
                body = proposal(document, schema)
                for name, field in schema["properties"].items():
                    fields += 1
                    proposal(document, field, name)
            for each in operation.get("parameters", []):
                fields += 1
                value = proposal(document, each["schema"], each["name"])
                if each["in"] == "path":
                    path = path.replace(f"{{{each['name']}}}", value)
                else:
                    query[each["name"]] = value
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            return await client.request(method, path, params=query, json=body, headers=headers)

        signup = await answer("post", "/auth/signup", document["paths"]["/auth/signup"]["post"], "")
        assert signup.status_code == 201
        for method, path, operation in operations(document):
            await users.all().delete()
            user = await users.create(
                email="ada@example.com", hashed_password=hashed, is_verified=True, is_superuser=True
            )
            opened = await open_session(auth, user)
            assert not isinstance(opened, Challenge)
            got = await answer(method, path, operation, opened.access_token)
            assert got.status_code != 422, (path, got.text)
            if method == "post" or path == "/account":
                assert got.status_code == SUCCEEDS.get(path, got.status_code) or method == "delete", path
    assert fields > 30
