"""What a feature brings to an app is checked at the start, and its tables fit the user model."""

from __future__ import annotations

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from tortoise import Model, fields
from tortoise.context import TortoiseContext, tortoise_test_context

from fastapi_pluggable_auth import Auth, include_auth
from fastapi_pluggable_auth.config import RECOMMENDED_RATES
from fastapi_pluggable_auth.features.feature import Feature
from fastapi_pluggable_auth.models import AuditEvent, MomentField, User, tables_for
from fastapi_pluggable_auth.plugin import running
from fastapi_pluggable_auth.routes.router import AuthRouter
from fastapi_pluggable_auth.security.rate_limits import RateConfigurationError

from .own_tables import User as Member
from .passes.models import Door, Pass
from .test_features import SETTINGS

PASSES = Feature(name="passes", tables=(Door, Pass))


def test_a_table_that_refers_to_the_account_is_copied_for_a_user_model_of_a_host() -> None:
    tables = tables_for(Member, PASSES)
    own = tables.of(Pass)
    assert own.__module__ == Member.__module__
    assert own._meta.db_table == Pass._meta.db_table
    assert own._meta.fields_map["user"].model_name is Member  # type: ignore[attr-defined]
    assert own._meta.fields_map["door"].model_name is tables.of(Door) is Door  # type: ignore[attr-defined]
    assert [*tables][-2:] == [Door, own]
    auth = Auth(SETTINGS, user_model=Member, features=[Feature(name="doors", tables=(Door,)), PASSES])
    assert auth.tables.of(Pass) is own
    assert tables_for(Member).of(AuditEvent) is tables.of(AuditEvent) is not AuditEvent


def test_a_table_of_a_feature_that_the_app_does_not_have_is_named() -> None:
    with pytest.raises(LookupError, match="Pass is not a table of this app"):
        tables_for(Member).of(Pass)


def test_a_copy_has_the_columns_and_the_methods_of_its_table_and_shares_none() -> None:
    class AbstractTicket(Model):
        id = fields.IntField(primary_key=True)
        sold_at = MomentField()

        class Meta:
            abstract = True

    class Ticket(AbstractTicket):
        user: fields.ForeignKeyRelation[User] = fields.ForeignKeyField(User, related_name="tickets")
        seat = fields.IntField()

        def row(self) -> int:
            return self.seat // 20

        class Meta:
            unique_together = ("user", "seat")

    copied = tables_for(Member, Feature(name="tickets", tables=(Ticket,))).of(Ticket)
    assert copied._meta.fields_db_projection == Ticket._meta.fields_db_projection
    assert copied._meta.unique_together == Ticket._meta.unique_together == (("user", "seat"),)
    assert copied(seat=41).row() == 2
    for model in (copied, Ticket):
        assert {field.model for field in model._meta.fields_map.values()} == {model}


def test_a_limit_that_another_has_is_refused_at_the_start() -> None:
    with pytest.raises(ValueError, match="rate limit 'login' is that of the library and of the feature x"):
        Auth(SETTINGS, features=[Feature(name="x", rates={"login": "1/hour"})])
    with pytest.raises(RateConfigurationError, match="'often' is not a rate"):
        Auth(
            SETTINGS.model_copy(update={"rate_limits": RECOMMENDED_RATES}),
            features=[Feature(name="x", rates={"knock": "often"})],
        )


async def test_a_table_in_another_database_than_the_users_is_refused_at_the_start() -> None:
    """A transaction of the users would not hold it."""
    memory = "sqlite://:memory:"
    labels = {
        "models": {"models": ["fastapi_pluggable_auth.models"], "default_connection": "default"},
        "doors": {"models": ["tests.passes.models"], "default_connection": "other"},
    }
    auth = Auth(SETTINGS, features=[PASSES])
    async with TortoiseContext() as context:
        await context.init({"connections": {"default": memory, "other": memory}, "apps": labels})
        with pytest.raises(
            RuntimeError, match="Door is in the database 'other', and User in 'default': give"
        ):
            async with running(auth):
                pass
    await auth.close()


def test_a_router_of_another_kind_is_refused_at_the_start() -> None:
    doors = Feature(name="doors", routers=lambda _: [APIRouter()])
    with pytest.raises(TypeError, match="AuthRouter"):
        include_auth(FastAPI(), settings=SETTINGS, features=[doors])


def test_a_route_that_no_request_would_reach_is_refused_at_the_start() -> None:
    """Those of the package come first: a feature takes no address of a page, nor one of another feature."""

    def feature(name: str, path: str) -> Feature:
        router = AuthRouter(prefix="/account")

        @router.post(path)
        async def post() -> None:
            """Does nothing."""

        return Feature(name=name, routers=lambda _: [router])

    features = [feature("x", "/profile/email")]
    with pytest.raises(ValueError, match=r"POST /account/profile/email of the feature x is never reached"):
        include_auth(FastAPI(), settings=SETTINGS, pages=True, features=features)
    include_auth(FastAPI(), settings=SETTINGS, features=features)
    features = [feature("x", "/{page}"), feature("y", "/notes")]
    with pytest.raises(
        ValueError, match=r"/account/notes of the feature y .*: /account/\{page\} comes first"
    ):
        include_auth(FastAPI(), settings=SETTINGS, features=features)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_a_wide_route_of_a_feature_leaves_the_pages_alone(tortoise: TortoiseContext) -> None:
    router = AuthRouter(prefix="/account")

    @router.get("/{page}")
    async def anything(page: str) -> str:
        return page

    app = FastAPI()
    include_auth(app, settings=SETTINGS, pages=True, features=[Feature(name="x", routers=lambda _: [router])])
    transport = httpx.ASGITransport(app)
    async with (
        tortoise_test_context(["fastapi_pluggable_auth.models"]),
        httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as client,
    ):
        assert (await client.get("/account/other")).text == '"other"'
        assert "<form" in (await client.get("/account/sign-in")).text
