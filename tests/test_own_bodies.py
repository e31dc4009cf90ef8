"""Bodies and user model of a host: what does not fit is refused at start, what fits is stored and shown."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, NewType
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from pydantic import (
    AfterValidator,
    AliasChoices,
    AliasPath,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    EmailStr,
    Field,
    SecretStr,
    create_model,
)
from pydantic import computed_field as computed
from pydantic.alias_generators import to_camel
from tortoise import fields
from tortoise.context import TortoiseContext

from fastapi_pluggable_auth import Auth, AuthSettings, Refused, include_auth
from fastapi_pluggable_auth.hooks import BeforeSignup, SignedUp, SigningUp
from fastapi_pluggable_auth.models import AbstractUser, EmailField, User
from fastapi_pluggable_auth.schemas import Email, NotStored, ProfileUpdate, Text, UserCreate, UserOut

from . import databases, own_columns
from .conftest import EMAIL, PASSWORD
from .own_columns import Colour, Member
from .spare_database import SpareDatabase

Postcode = NewType("Postcode", str)


class Shop(AbstractUser):
    """What the bodies of these tests are for."""

    city = fields.CharField(max_length=10, null=True)
    level = fields.IntField(default=1)
    colour = fields.CharEnumField(Colour, default=Colour.RED)
    born_on = fields.DateField(null=True)
    settings = fields.JSONField[dict[str, Any]](default=dict)
    company: fields.ForeignKeyNullableRelation[Any] = fields.ForeignKeyField("shop.Company", null=True)
    seat: fields.ForeignKeyNullableRelation[Any] = fields.ForeignKeyField(
        "shop.Seat", null=True, source_field="place"
    )

    @property
    def initials(self) -> str:
        """A computed value."""
        return self.email[:1]

    def shout(self) -> str:
        """A method."""
        return self.email.upper()

    @property
    async def friends(self) -> int:
        """What needs the database."""
        return 0


def refusal(settings: AuthSettings, **options: Any) -> str:
    """The sentence with which a set-up is refused, "" where it starts."""
    options.setdefault("user_model", Shop)
    try:
        include_auth(FastAPI(), settings=settings, **options)
    except ValueError as error:
        return str(error)
    return ""


class Nested(BaseModel):
    x: int = 1


FITTING_SIGNUPS: list[dict[str, Any]] = [
    {"city": (Text, ...)},
    {"city": (Postcode, ...)},
    {"city": (Literal["Rome", "Oslo"], "Rome")},
    {"city": (Colour, Colour.RED)},
    {"city": (Annotated[int, AfterValidator(str)], 1)},
    {"level": (int | None, None)},
    {"level": (bool, False)},
    {"colour": (Colour, ...)},
    {"colour": (Literal["red"], "red")},
    {"born_on": (date | None, None)},
    {"settings": (Nested, Nested())},
    {"settings": (list[int], [])},
    {"company_id": (int, ...)},
    {"seat_id": (int, ...)},
    {"code": (Annotated[Text, NotStored], ...)},
    {"code": (Annotated[Text, NotStored] | None, None)},
    {"code": (Annotated[SecretStr, NotStored], ...)},
    {"email": (Annotated[Email, AfterValidator(str.lower)], ...)},
    {"display_name": (Text, ...)},
    {"repeated": (str, Field(exclude=True))},
]


def label(value: object) -> str:
    """What a test is called: the same in every process."""
    return re.sub(r" at 0x\w+", "", str(value))


@pytest.mark.parametrize("columns", FITTING_SIGNUPS, ids=label)
def test_a_signup_of_fields_that_fit_their_columns_is_taken(
    settings: AuthSettings, columns: dict[str, Any]
) -> None:
    assert refusal(settings, user_create=create_model("NewUser", __base__=UserCreate, **columns)) == ""


UNFIT_SIGNUPS: list[tuple[dict[str, Any], str]] = [
    ({"invite_code": (str, ...)}, "Shop has no column for NewUser.invite_code: .* mark it NotStored"),
    ({"terms": (bool, False)}, "Shop has no column for NewUser.terms"),
    ({"company": (int, ...)}, "Shop has no column for NewUser.company:"),
    ({"initials": (str, ...)}, "Shop has no column for NewUser.initials"),
    ({"place": (int, ...)}, "Shop has no column for NewUser.place"),
    ({"city": (Annotated[Text, NotStored], ...)}, "NewUser.city is NotStored, but Shop has such a column"),
    ({"level": (str, "1")}, "NewUser.level does not fit its column: Shop.level is IntField"),
    ({"level": (Text | None, None)}, "NewUser.level does not fit"),
    ({"level": (int | str, 1)}, "NewUser.level does not fit"),
    ({"level": (float, 1.5)}, "NewUser.level does not fit"),
    ({"level": (Literal["one"], "one")}, "NewUser.level does not fit"),
    ({"city": (int, 1)}, "NewUser.city does not fit its column: Shop.city is CharField"),
    ({"city": (date | None, None)}, "NewUser.city does not fit"),
    ({"city": (SecretStr, "x")}, "NewUser.city does not fit"),
    ({"city": (Nested, Nested())}, "NewUser.city does not fit"),
    ({"city": (list[str], [])}, "NewUser.city does not fit"),
    ({"born_on": (datetime | None, None)}, "NewUser.born_on does not fit"),
    ({"born_on": (Postcode, "x")}, "NewUser.born_on does not fit"),
    ({"email": (EmailStr, ...)}, "NewUser.email must keep the rules .*schemas[.]Email,"),
    ({"email": (str, ...)}, "NewUser.email must keep the rules"),
    ({"password": (str, ...)}, "NewUser.password must keep the rules .*schemas[.]NewPassword,"),
    ({"password": (SecretStr, ...)}, "NewUser.password must keep the rules"),
    (
        {"city": (Text, Field("", exclude=True))},
        "NewUser.city has exclude=True, which keeps it from Shop.city",
    ),
]


@pytest.mark.parametrize(("columns", "sentence"), UNFIT_SIGNUPS, ids=label)
def test_a_signup_that_does_not_fit_the_user_model_is_refused_at_start(
    settings: AuthSettings, columns: dict[str, Any], sentence: str
) -> None:
    body = create_model("NewUser", __base__=UserCreate, **columns)
    with pytest.raises(ValueError, match=sentence):
        include_auth(FastAPI(), settings=settings, user_model=Shop, user_create=body)


def test_no_body_lets_clients_name_the_columns(settings: AuthSettings) -> None:
    class Open(UserCreate, extra="allow"):
        pass

    class Loose(ProfileUpdate, extra="allow"):
        pass

    class Sly(UserCreate):
        @computed  # type: ignore[prop-decorator]  # as Pydantic documents it
        @property
        def is_superuser(self) -> bool:
            return True

    class Forgetful(UserCreate, extra="ignore"):
        pass

    assert refusal(settings, user_create=Open).startswith('Open must not have extra="allow"')
    assert refusal(settings, profile_update=Loose).startswith('Loose must not have extra="allow"')
    assert refusal(settings, user_create=Sly).startswith("Sly must not name is_superuser:")
    assert refusal(settings, user_create=Forgetful) == ""


def test_clients_say_of_the_columns_of_the_package_only_what_is_theirs_to_say(settings: AuthSettings) -> None:
    """ASVS 15.3.3; also of those to come."""
    theirs = set()
    for name in AbstractUser._meta.fields_map:
        refusals = [
            refusal(settings, **{option: create_model("Body", __base__=base, **{name: (Any, None)})})  # type: ignore[call-overload]  # any name
            for option, base in (("user_create", UserCreate), ("profile_update", ProfileUpdate))
            if name != "email"
        ]
        if not any(f"Body must not name {name}: clients" in each for each in refusals):
            theirs.add(name)
        else:
            assert all(refusals)
    assert theirs == {"email", "display_name", "language"}


def test_a_profile_names_columns_alone(settings: AuthSettings) -> None:
    class Fitting(ProfileUpdate):
        city: Text | None = None
        level: int | None = None

    class Lost(ProfileUpdate):
        newsletter: bool | None = None

    class Marked(ProfileUpdate):
        newsletter: Annotated[bool | None, NotStored] = None

    class Mixed(ProfileUpdate):
        level: str | None = None

    assert refusal(settings, profile_update=Fitting) == ""
    assert refusal(settings, profile_update=Lost) == "Shop has no column for Lost.newsletter"
    assert "NotStored, which is for fields of user_create alone" in refusal(settings, profile_update=Marked)
    assert "Mixed.level does not fit its column" in refusal(settings, profile_update=Mixed)


def test_a_required_column_is_given_by_every_signup(settings: AuthSettings) -> None:
    class Needy(AbstractUser):
        tax_number = fields.CharField(max_length=20)

    class Named(AbstractUser):
        display_name = fields.CharField(max_length=64)

    class Nullable(UserCreate):
        tax_number: Text | None

    class Optional(UserCreate):
        tax_number: Text | None = "none"

    class Made(UserCreate):
        tax_number: Text = Field(default_factory=lambda: "x")

    class Computed(UserCreate):
        @computed  # type: ignore[prop-decorator]  # as Pydantic documents it
        @property
        def tax_number(self) -> str:
            return self.email[:20]

    for body in (None, Nullable, Optional):
        assert "Needy needs a value for tax_number" in refusal(settings, user_model=Needy, user_create=body)
    for body in (Made, Computed):
        assert refusal(settings, user_model=Needy, user_create=body) == ""
    assert "Named needs a value for display_name" in refusal(settings, user_model=Named)


FITTING_ANSWERS: list[dict[str, Any]] = [
    {"city": (str | None, None)},
    {"initials": (str, ...)},
    {"kind": (Literal["user"], "user")},
    {"where": (str | None, Field(validation_alias="city"))},
    {"level": (Annotated[str, BeforeValidator(str)], ...)},
    {"born_on": (date | None, ...)},
    {"colour": (str, ...)},
    {"settings": (dict[str, Any], ...)},
    {"company_id": (int | None, ...)},
    {"is_active": (bool, ...)},
    {"settings_x": (int, Field(validation_alias=AliasPath("settings", "x")))},
    {"where": (str | None, Field(validation_alias=AliasChoices("town", "city")))},
]
UNFIT_ANSWERS: list[tuple[dict[str, Any], str]] = [
    ({"country": (str, ...)}, "Me.country: Shop has no column and no property country"),
    ({"city": (str, Field(validation_alias="town"))}, "Me.city: Shop has no column and no property town"),
    ({"city": (str, ...)}, r"Me.city must be `\| None`, as Shop.city may be empty"),
    ({"level": (str, ...)}, "Me.level does not fit its column: Shop.level is IntField"),
    ({"id": (str, ...)}, "Me.id does not fit its column"),
    ({"city": (Nested | None, None)}, "Me.city does not fit its column"),
    ({"company": (Nested | None, None)}, "Me.company: the relation Shop.company is not read along"),
    ({"shout": (str, ...)}, "Me.shout: Shop.shout is a method: make it a property"),
    ({"friends": (int, 0)}, "Me.friends: Shop.friends is async"),
    ({"hashed_password": (str, ...)}, "Me must not show hashed_password"),
    ({"x": (str, Field(validation_alias="hashed_password"))}, "Me must not show hashed_password"),
    ({"x": (Any, Field(alias="totp_secret"))}, "Me must not show totp_secret"),
    ({"x": (str, Field(validation_alias=AliasChoices("y", "hashed_password")))}, "Me must not show hashed"),
    ({"x": (str, Field(validation_alias=AliasPath("hashed_password")))}, "Me must not show hashed_password"),
    ({"x": (str, Field(validation_alias=AliasChoices("y", "z")))}, "Me.x: Shop has .* no property z"),
    ({"x": (str, Field(validation_alias=AliasChoices("y", "level")))}, "Me.x does not fit its column"),
]


@pytest.mark.parametrize("columns", FITTING_ANSWERS, ids=label)
def test_an_answer_of_what_users_have_is_taken(settings: AuthSettings, columns: dict[str, Any]) -> None:
    assert refusal(settings, user_out=create_model("Me", __base__=UserOut, **columns)) == ""


@pytest.mark.parametrize(("columns", "sentence"), UNFIT_ANSWERS, ids=label)
def test_an_answer_that_no_user_could_give_is_refused_at_start(
    settings: AuthSettings, columns: dict[str, Any], sentence: str
) -> None:
    body = create_model("Me", __base__=UserOut, **columns)
    with pytest.raises(ValueError, match=sentence):
        include_auth(FastAPI(), settings=settings, user_model=Shop, user_out=body)


MODELS: list[tuple[dict[str, Any], str]] = [
    ({"id": fields.IntField(primary_key=True)}, "Own must keep `id`, a UUID, as its primary key"),
    ({"id": fields.CharField(max_length=36, primary_key=True)}, "Own must keep `id`, a UUID"),
    (
        {"id": fields.UUIDField(unique=True), "number": fields.IntField(primary_key=True)},
        "Own must keep `id`, a UUID",
    ),
    ({"email": fields.CharField(max_length=99, unique=True)}, "Own.email .* must stay EmailField"),
    ({"email": EmailField()}, "Own.email must be unique"),
    ({"email": None}, "Own.email is a column of the package"),
    ({"is_active": fields.CharField(max_length=3, default="yes")}, "Own.is_active .* BooleanField"),
    ({"roles": fields.JSONField(default=list)}, "Own.roles is a column of the package"),
    ({"permissions": property(lambda user: ())}, "Own.permissions is a column of the package"),
    ({"two_factor_active": fields.BooleanField(default=False)}, "Own.two_factor_active is a property of the"),
    ({"two_factor_active": property(lambda user: False)}, "Own.two_factor_active is a property of the"),
    ({"username": fields.CharField(max_length=20)}, "Own.username must be unique"),
    ({"username": fields.IntField(unique=True)}, "Own.username must be unique, and text"),
]


@pytest.mark.parametrize(("columns", "sentence"), MODELS, ids=label)
def test_a_user_model_in_which_no_account_could_live_is_refused_at_start(
    settings: AuthSettings, columns: dict[str, Any], sentence: str
) -> None:
    own = type("Own", (AbstractUser,), {"__module__": __name__, **columns})
    with pytest.raises(ValueError, match=sentence):
        include_auth(FastAPI(), settings=settings, user_model=own)


def test_a_user_model_has_one_table(settings: AuthSettings) -> None:
    class Between(AbstractUser):
        city = fields.CharField(max_length=10, default="")

        class Meta:
            abstract = True

    class Own(Between):
        pass

    class Second(User):
        pass

    assert refusal(settings, user_model=Own) == ""
    assert refusal(settings, user_model=Between).startswith("Between is abstract")
    assert refusal(settings, user_model=Second).startswith("Second inherits from User, which has a table")


class NewMember(UserCreate):
    text: str = ""
    short: str = ""
    small: int = 0
    big: int = 0
    price: Decimal = Decimal(0)
    ratio: float = 0
    news: bool = False
    colour: str = "red"
    plan: int = 1
    born_on: date | None = None
    key: UUID | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    code: Annotated[str, NotStored] = ""


class MemberOut(UserOut):
    text: str
    short: str
    small: int
    big: int
    price: Decimal
    ratio: float
    news: bool
    colour: Colour
    plan: int
    born_on: date | None
    key: UUID | None
    options: dict[str, Any]


@pytest.fixture
def app(settings: AuthSettings) -> FastAPI:
    """An app whose users have a column of every type."""
    app = FastAPI()
    include_auth(app, settings=settings, user_model=Member, user_create=NewMember, user_out=MemberOut)
    return app


@pytest.fixture
async def client(app: FastAPI, spare: SpareDatabase) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the app, on a database of its own."""
    await databases.create(spare.url, spare.dialect, own_columns.__name__, "shop")
    async with TortoiseContext() as context:
        config = databases.config(spare.url, f"{spare.dialect} columns", "shop", own_columns.__name__)
        await context.init(config)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
            yield client
        await app.state.pluggable_auth.close()


UNSTORABLE: list[dict[str, Any]] = [
    {"short": "x" * 6},
    {"small": 2**15},
    {"big": 2**63},
    {"price": "12345.00"},
    {"price": "1e30"},
    {"price": "-99999.999"},
    {"price": "NaN"},
    {"ratio": "NaN"},
    {"ratio": "-inf"},
    {"colour": "green"},
    {"plan": 3},
    {"text": "a\0"},
]


async def test_a_value_that_a_column_cannot_hold_is_the_fault_of_the_request(
    client: httpx.AsyncClient, app: FastAPI
) -> None:
    """Of every type, and nothing is stored; what fits is shown as it is stored."""
    account = {"email": EMAIL, "password": PASSWORD}
    for values in UNSTORABLE:
        answer = await client.post("/auth/signup", json=account | values)
        assert (answer.status_code, answer.json()["code"]) == (422, "validation_error"), (values, answer.text)
    assert not await Member.exists()
    values = {
        "text": "é" * 70_000,
        "short": "\U0001f600" * 5,
        "small": -(2**15),
        "big": 2**63 - 1,
        "price": "9999.994",
        "ratio": 0.5,
        "news": True,
        "colour": "blue",
        "plan": 2,
        "born_on": "2000-02-29",
        "key": "0195f3a0-0000-7000-8000-000000000000",
        "options": {"a": [1]},
    }
    answer = await client.post("/auth/signup", json=account | values)
    assert answer.status_code == 201, answer.text
    stored = MemberOut.model_validate(await Member.get()).model_dump(mode="json")
    assert answer.json() == stored
    assert stored.items() >= (values | {"price": "9999.99"}).items()


@pytest.mark.parametrize("spare", ["sqlite"], indirect=True)
async def test_hooks_hear_the_fields_that_are_not_stored(client: httpx.AsyncClient, app: FastAPI) -> None:
    auth: Auth = app.state.pluggable_auth
    heard: list[tuple[str, object]] = []

    @auth.on(BeforeSignup)
    async def invited(event: BeforeSignup) -> None:
        heard.append(("before", dict(event.extra)))
        assert "code" not in event.columns
        if event.extra["code"] != "sesame":
            raise Refused("Sign up by invitation only.", code="not_invited")

    @auth.on(SigningUp)
    async def during(event: SigningUp[Member]) -> None:
        heard.append(("during", dict(event.extra)))

    @auth.on(SignedUp)
    async def after(event: SignedUp[Member]) -> None:
        heard.append(("after", dict(event.extra)))

    account = {"email": EMAIL, "password": PASSWORD}
    answer = await client.post("/auth/signup", json={**account, "code": "no"})
    assert (answer.status_code, answer.json()["code"]) == (403, "not_invited")
    assert (await client.post("/auth/signup", json={**account, "code": "sesame"})).status_code == 201
    code = {"code": "sesame"}
    assert heard == [("before", {"code": "no"}), ("before", code), ("during", code), ("after", code)]


@pytest.mark.parametrize("spare", ["sqlite"], indirect=True)
async def test_aliases_are_for_clients_alone(settings: AuthSettings, client: httpx.AsyncClient) -> None:
    """Whatever they are, and in whichever way the host turns them on."""

    class Camel(BaseModel):
        model_config = ConfigDict(alias_generator=to_camel, serialize_by_alias=True, populate_by_name=True)

    class New(Camel, NewMember):
        news: bool = Field(False, serialization_alias="is_superuser")

    class Profile(Camel, ProfileUpdate):
        born_on: date | None = None

    class Me(Camel, MemberOut):
        pass

    app = FastAPI()
    bodies: dict[str, Any] = {"user_create": New, "profile_update": Profile, "user_out": Me}
    include_auth(app, settings=settings, user_model=Member, **bodies)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://testserver") as client:
        account = {"email": EMAIL, "password": PASSWORD, "bornOn": "2000-02-29", "is_superuser": True}
        assert (await client.post("/auth/signup", json=account)).status_code == 422
        account["news"] = account.pop("is_superuser")
        shown = (await client.post("/auth/signup", json=account)).json()
        assert (shown["bornOn"], shown["isVerified"], shown["news"]) == ("2000-02-29", False, True)
        user = await Member.get()
        assert (user.born_on, user.news, user.is_superuser) == (date(2000, 2, 29), True, False)
        await Member.all().update(is_verified=True)
        tokens = (await client.post("/auth/login", json={"email": EMAIL, "password": PASSWORD})).json()
        bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
        changed = await client.patch("/account", json={"bornOn": None, "displayName": "Ada"}, headers=bearer)
        assert (changed.json()["bornOn"], changed.json()["displayName"]) == (None, "Ada")
    await app.state.pluggable_auth.close()
