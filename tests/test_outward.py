"""Whatever a host's route makes of a row, no secret column leaves (ASVS 15.3.1, 14.2.6)."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Callable
from copy import copy, deepcopy
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.encoders import jsonable_encoder
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from tortoise.contrib.pydantic import pydantic_model_creator

from fastapi_pluggable_auth import Auth, CurrentUser
from fastapi_pluggable_auth.dependencies import CurrentAuthentication
from fastapi_pluggable_auth.flows.authentication import Authentication
from fastapi_pluggable_auth.models import (
    Device,
    Mail,
    PersonalToken,
    RecoveryCode,
    RefreshToken,
    Session,
    Tables,
    User,
    tables_for,
)
from fastapi_pluggable_auth.schemas import NamedUserOut, UserOut
from fastapi_pluggable_auth.security.hashing import hash_password

from .conftest import EMAIL, Account
from .own_tables import User as Member

DIALECTS = ("sqlite",)

SECRETS = {"hashed_password", "totp_secret", "signup_binding", "token", "digest"}


@dataclasses.dataclass
class Pair:
    user: User
    note: str = ""


class Holder(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    user: Any


class Typed(BaseModel):
    user: User


class Everything(BaseModel):
    """Takes over each attribute that an object names."""

    model_config = ConfigDict(from_attributes=True, extra="allow")


def own_fields(user: User) -> object:
    return {name: getattr(user, name) for name in UserOut.model_fields}


SHAPES: dict[str, Callable[[User], object]] = {
    "itself": lambda user: user,
    "list": lambda user: [user, user],
    "nested": lambda user: {"a": [{"b": (user,)}]},
    "dict()": lambda user: dict(user),  # type: ignore[call-overload]
    "vars()": lambda user: vars(user),
    "__dict__": lambda user: user.__dict__,
    "copied vars()": lambda user: {**vars(user)},
    "dataclass": lambda user: Pair(user),
    "model with anything": lambda user: Holder(user=user),
    "model with a user": lambda user: Typed(user=user),
    "model of all attributes": lambda user: Everything.model_validate(user),
    "encoder": lambda user: JSONResponse(jsonable_encoder(user)),
    "encoder of vars()": lambda user: JSONResponse(jsonable_encoder(vars(user))),
    "response": lambda user: JSONResponse(user),
    "creator": lambda user: pydantic_model_creator(User, exclude=RELATIONS).model_validate(user),
    "copy": lambda user: deepcopy([copy(user)]),
}
RELATIONS = (
    "refresh_tokens",
    "auth_sessions",
    "auth_mails",
    "auth_recovery_codes",
    "auth_personal_tokens",
    "auth_devices",
)


@pytest.fixture
async def secrets(account: Account, auth: Auth) -> set[str]:
    """What no answer may have."""
    stored = {"totp_secret": "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP", "signup_binding": "b" * 64}
    await User.all().update(**stored)
    user = await User.get()
    token = await RefreshToken.get()
    return {*stored.values(), user.hashed_password, token.token}


async def answer_of(app: FastAPI, client: httpx.AsyncClient, account: Account, path: str) -> httpx.Response:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as raw:
        return await raw.get(path, headers=account.headers)


@pytest.mark.parametrize("model", ["none", "annotated", "any"])
@pytest.mark.parametrize("name", SHAPES)
async def test_no_shape_of_a_user_has_a_secret(
    app: FastAPI, client: httpx.AsyncClient, account: Account, secrets: set[str], name: str, model: str
) -> None:
    shape = SHAPES[name]

    async def plain(user: CurrentUser):  # type: ignore[no-untyped-def]
        return shape(user)

    async def anything(user: CurrentUser) -> Any:
        return shape(user)

    options = {"none": {"response_model": None}, "annotated": {}, "any": {}}[model]
    app.get("/shape", **options)(anything if model == "any" else plain)
    answer = await answer_of(app, client, account, "/shape")
    for secret in secrets:
        assert secret not in answer.text
    assert answer.status_code in (200, 500)
    assert not [column for column in SECRETS if f'"{column}"' in answer.text]


async def test_a_returned_user_is_what_the_account_route_answers(
    app: FastAPI, client: httpx.AsyncClient, account: Account
) -> None:
    @app.get("/plain")
    async def plain(user: CurrentUser):  # type: ignore[no-untyped-def]
        return user

    @app.get("/typed")
    async def typed(user: CurrentUser) -> User:
        return user

    @app.get("/many")
    async def many(user: CurrentUser) -> dict[str, list[User | None]]:
        return {"users": [user, None]}

    @app.get("/queried", response_model=None)
    async def queried(user: CurrentUser) -> object:
        return await User.all()

    @app.get("/out", response_model=UserOut)
    async def out(user: CurrentUser) -> object:
        return user

    me = (await account.me()).json()
    for path in ("/plain", "/typed", "/out"):
        assert (await client.get(path, headers=account.headers)).json() == me
    assert (await client.get("/many", headers=account.headers)).json() == {"users": [me, None]}
    assert (await client.get("/queried", headers=account.headers)).json() == [me]
    schema = (await client.get("/openapi.json")).json()["paths"]["/typed"]["get"]["responses"]["200"]
    assert {*schema["content"]["application/json"]["schema"]["properties"]} == {*UserOut.model_fields}


async def test_a_route_may_leave_columns_of_a_user_out(
    app: FastAPI, client: httpx.AsyncClient, account: Account
) -> None:
    async def one(user: CurrentUser) -> object:
        return user

    async def both(user: CurrentUser) -> object:
        return [user, user]

    secret = {"email", "hashed_password"}
    app.get("/without", response_model=User, response_model_exclude={"email"})(one)
    app.get("/only", response_model=User, response_model_include=secret)(one)
    every: Any = {"__all__": {"email"}}
    app.get("/many", response_model=list[User], response_model_exclude=every)(both)
    app.get("/set", response_model=User, response_model_exclude_none=True)(one)
    me = (await account.me()).json()
    without = {name: value for name, value in me.items() if name != "email"}
    full = {name: value for name, value in me.items() if value is not None}
    for path, expected in (
        ("/without", without),
        ("/only", {"email": EMAIL}),
        ("/many", [without, without]),
        ("/set", full),
    ):
        assert (await client.get(path, headers=account.headers)).json() == expected


@pytest.mark.parametrize("separate", [True, False])
def test_the_document_has_what_leaves_of_a_user(separate: bool) -> None:
    """Also where the app has one schema for what comes in and goes out."""
    app = FastAPI(separate_input_output_schemas=separate)

    @app.get("/typed")
    async def typed(user: CurrentUser) -> User:
        return user

    content = app.openapi()["paths"]["/typed"]["get"]["responses"]["200"]["content"]
    assert {*content["application/json"]["schema"]["properties"]} == {*UserOut.model_fields}


async def test_what_leaves_is_what_the_schema_has() -> None:
    assert User._outward() == [*UserOut.model_fields]
    assert {*Member._outward()} <= {*NamedUserOut.model_fields}


async def test_an_authentication_leaves_no_secret(
    app: FastAPI, client: httpx.AsyncClient, account: Account, secrets: set[str]
) -> None:
    @app.get("/who", response_model=None)
    async def who(authentication: CurrentAuthentication) -> Authentication:
        return authentication

    answer = await answer_of(app, client, account, "/who")
    assert not any(secret in answer.text for secret in secrets)


async def test_rows_of_other_tables_leave_no_secret_either(
    app: FastAPI, client: httpx.AsyncClient, account: Account, auth: Auth, clock: Callable[[], Any]
) -> None:
    user = await User.get()
    shared = {"user": user, "digest": "d" * 64}
    rows = [
        await PersonalToken.create(name="n", **shared),
        await RecoveryCode.create(**shared),
        await Device.create(expires_at=clock(), last_used_at=clock(), **shared),
        await RefreshToken.get(),
        await Session.get(),
        await Mail.first(),
    ]

    @app.get("/rows", response_model=None)
    async def answered(_: CurrentUser) -> object:
        return rows

    answer = await answer_of(app, client, account, "/rows")
    assert answer.status_code == 200
    shown = answer.json()
    assert len(shown) == len(rows)
    for row in shown:
        assert row["id"]
        assert not SECRETS & {*row}
    assert "d" * 64 not in answer.text


@pytest.mark.parametrize("model", [*Tables(), *tables_for(Member)])
def test_a_generated_model_of_pydantic_has_no_secret(model: Any) -> None:
    made = pydantic_model_creator(model, name=f"Made{model.__name__}", exclude=RELATIONS)
    assert not SECRETS & {*made.model_fields}


async def test_a_secret_is_read_written_queried_and_kept_as_any_column(tortoise: object) -> None:
    hashed = hash_password("x")
    user = await User.create(email=EMAIL, hashed_password=hashed)
    pickled = pickle.loads(pickle.dumps(user))  # noqa: S301
    for same in (user, copy(user), deepcopy(user), pickled, await User.get()):
        assert same.hashed_password == hashed
        assert same.totp_secret is None
        assert vars(same)["hashed_password"] == vars(user)["hashed_password"]
        assert hashed not in f"{same!r} {same} {vars(same)}"
    user.hashed_password = "other"
    await user.save()
    assert await User.filter(hashed_password="other").values_list("hashed_password") == [("other",)]
    partial = await User.all().only("id", "email").get()
    assert dict(partial) == {"id": user.id, "email": EMAIL}  # type: ignore[call-overload]
    with pytest.raises(AttributeError):
        _ = partial.hashed_password
