"""The OpenAPI document: names that clients are generated from."""

from __future__ import annotations

import pickle
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from openapi_spec_validator import OpenAPIV31SpecValidator, validate
from pydantic import BaseModel, create_model
from tortoise.context import TortoiseContext

from fastapi_pluggable_auth import AuthSettings, include_auth, schemas
from fastapi_pluggable_auth.dependencies import SignedIn
from fastapi_pluggable_auth.features import Administration, AuditLog, PersonalTokens
from fastapi_pluggable_auth.features.administration import schemas as admin_schemas
from fastapi_pluggable_auth.features.audit_log import schemas as audit_schemas
from fastapi_pluggable_auth.features.personal_tokens import schemas as token_schemas
from fastapi_pluggable_auth.features.two_factor import schemas as two_factor_schemas
from fastapi_pluggable_auth.schemas import UserCreate, UserOut

DIALECTS = ("sqlite",)


def with_everything(settings: AuthSettings, app: FastAPI, **options: Any) -> FastAPI:
    """The app with every route that there is."""
    update = {"cookies": True, "dev_mailbox": True, "email_provider": "memory"}
    chosen = settings.model_copy(update=update)
    features = [Administration(), PersonalTokens(scopes={"notes:read": "Read"}), AuditLog()]
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
    for module in (schemas, admin_schemas, audit_schemas, token_schemas, two_factor_schemas)
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
