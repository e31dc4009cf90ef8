"""The pages ask for the fields of the host's own bodies, and say what is wrong beside each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, create_model, model_validator
from pydantic.alias_generators import to_camel
from tortoise import fields
from tortoise.context import TortoiseContext

from fastapi_pluggable_auth import AuthSettings, Refused, include_auth
from fastapi_pluggable_auth.features import Administration
from fastapi_pluggable_auth.hooks import BeforeSignup
from fastapi_pluggable_auth.models import AbstractUser
from fastapi_pluggable_auth.schemas import NotStored, ProfileUpdate, Text, UserCreate

from . import databases, own_form
from .conftest import EMAIL, PASSWORD
from .form_browser import BROWSER, FormBrowser, Page
from .own_form import Customer, CustomerProfile, NewCustomer, Plan

BASE = "http://testserver"
ACCOUNT = {
    "email": EMAIL,
    "username": "Ada",
    "new_password": PASSWORD,
    "company": "Engines",
    "plan": "team",
    "seats": "3",
    "terms": "true",
}


@pytest.fixture
def app(settings: AuthSettings, tmp_path: Path) -> FastAPI:
    """An app whose sign-up has a field of each kind."""
    settings.public_base_url = BASE
    settings.template_dir = tmp_path
    app = FastAPI()
    include_auth(
        app,
        settings=settings,
        user_model=Customer,
        user_create=NewCustomer,
        profile_update=CustomerProfile,
        pages=True,
        features=[Administration()],
    )
    return app


@pytest.fixture
async def visitor(app: FastAPI, tmp_path: Path) -> AsyncIterator[FormBrowser]:
    """Somebody with a browser; the host has no say in the database here, so one is enough."""
    url = f"sqlite://{tmp_path / 'pages.sqlite3'}"
    await databases.create(url, "sqlite", own_form.__name__, "shop")
    async with TortoiseContext() as context:
        await context.init(databases.config(url, "sqlite form", "shop", own_form.__name__))
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url=BASE, headers=BROWSER) as client:
            yield FormBrowser(client)
        await app.state.pluggable_auth.close()


@pytest.fixture
async def ada(visitor: FormBrowser) -> FormBrowser:
    """A visitor who has signed up and in."""
    await visitor.open("/account/sign-up")
    await visitor.submit("sign-up", **ACCOUNT, phone="1", news="true", about="One")
    await Customer.all().update(is_verified=True)
    await visitor.open("/account/sign-in")
    assert (await visitor.submit("sign-in", email=EMAIL, password=PASSWORD)).path == "/account/profile"
    return visitor


def described(page: Page, name: str) -> str:
    """What is said beside a field."""
    tags = [attributes for tag, attributes in page.tags if attributes.get("name") == name and tag != "meta"]
    field = next(each for each in tags if each.get("type") != "hidden")
    assert field["aria-invalid"] == "true"
    said = []
    for each in field["aria-describedby"].split():
        said.append(page.text.split(f'id="{each}"', 1)[1].split(">", 1)[1].split("<", 1)[0].strip())
    return " ".join(said)


async def test_the_sign_up_page_asks_for_the_fields_of_the_body(visitor: FormBrowser) -> None:
    page = await visitor.open("/account/sign-up")
    assert page.status == 200
    labels = {attributes["for"] for tag, attributes in page.tags if tag == "label"}
    assert labels >= {
        f"own-{name}" for name in NewCustomer.model_fields if name not in ("email", "password", "tags")
    }
    assert ">Company name</label>" in page.text
    assert "I accept the &lt;terms&gt;</label>" in page.text
    assert "As on your invoices. For example: Engines" in page.text
    company = page.one("input", name="company")
    assert (company["autocomplete"], company["aria-describedby"]) == ("organization", "company-hint")
    assert "required" in company
    assert page.one("input", name="phone")["autocomplete"] == "tel"
    assert "required" not in page.one("input", name="phone")
    seats = page.one("input", name="seats")
    assert (seats["type"], seats["min"], seats["max"], seats["step"]) == ("number", "1", "50", "1")
    assert page.one("input", name="rate")["step"] == "any"
    assert page.one("input", name="born_on")["type"] == "date"
    assert "checked" in page.one("input", name="news", type="checkbox")
    assert "checked" not in page.one("input", name="terms", type="checkbox")
    page.one("textarea", name="about")
    options = [attributes for tag, attributes in page.tags if tag == "option"]
    assert [each["value"] for each in options if "selected" in each] == ["DE"]
    assert [each["value"] for each in options] == ["", "free", "team", "", "DE", "AT"]
    assert "tags" not in {attributes.get("name") for _, attributes in page.tags}


async def test_what_the_form_says_is_stored(visitor: FormBrowser) -> None:
    await visitor.open("/account/sign-up")
    more = {
        "rate": "1.5",
        "born_on": "2000-02-29",
        "phone": "",
        "about": "a\r\nb",
        "invoices": "",
        "country": "AT",
    }
    page = await visitor.submit("sign-up", **ACCOUNT, **more)
    assert page.path == "/account/check-mail", page.text
    stored = await Customer.get()
    assert (stored.company, stored.plan, stored.seats, stored.rate) == ("Engines", "team", 3, Decimal("1.5"))
    assert (stored.born_on, stored.phone, stored.about) == (date(2000, 2, 29), None, "a\nb")
    assert (stored.username, stored.country, stored.news) == ("ada", "AT", False)


WRONG: list[tuple[dict[str, str], str, str]] = [
    ({"company": ""}, "company", "Please fill this in."),
    ({"company": "x"}, "company", "at least 2 characters"),
    ({"company": "none"}, "company", "We know no such company."),
    ({"company": "x" * 21}, "company", "This is not valid."),
    ({"plan": ""}, "plan", "Please choose one of these."),
    ({"plan": "gold"}, "plan", "Please choose one of these."),
    ({"seats": ""}, "seats", "Please fill this in."),
    ({"seats": "many"}, "seats", "not a whole number"),
    ({"seats": "1.5"}, "seats", "not a whole number"),
    ({"seats": "51"}, "seats", "largest possible number is 50"),
    ({"seats": "9" * 5000}, "seats", "whole number"),
    ({"rate": "x"}, "rate", "This is not a number."),
    ({"rate": "99999"}, "rate", "This is not valid."),
    ({"born_on": "yesterday"}, "born_on", "This is not a date."),
    ({"phone": "abc"}, "phone", "This is not valid."),
    ({"invoices": "ada@"}, "invoices", "not a complete e-mail address"),
    ({"terms": ""}, "terms", "Please tick this box."),
]


async def test_a_field_that_is_wrong_says_so_beside_it(visitor: FormBrowser) -> None:
    assert len(WRONG) == 17
    for typed, name, sentence in WRONG:
        await visitor.open("/account/sign-up")
        page = await visitor.submit("sign-up", **ACCOUNT | typed)
        assert (page.status, await Customer.all().count()) == (422, 0), typed
        assert sentence in described(page, name), typed
        assert "Please look at the fields that are marked." in page.text
        focused = [attributes for _, attributes in page.tags if "autofocus" in attributes]
        assert [each["name"] for each in focused] == [name], typed


async def test_every_field_that_is_wrong_is_marked_and_what_was_typed_is_kept(visitor: FormBrowser) -> None:
    """All at once, those that every app has too; but for the password, which is not shown again."""
    await visitor.open("/account/sign-up")
    typed = {"phone": "a<b", "born_on": "2000-02-29", "about": "<Me>", "news": "true", "plan": "free"}
    page = await visitor.submit("sign-up", email="ada", new_password="a<2b", username="a b", **typed)
    assert page.status == 422
    for name in ("email", "new_password", "username", "company", "seats", "phone", "terms"):
        assert described(page, name), name
    assert page.one("input", name="phone")["value"] == "a<b"
    assert page.one("input", name="email")["value"] == "ada"
    assert page.one("input", name="born_on")["value"] == "2000-02-29"
    assert "&lt;Me&gt;</textarea>" in page.text
    assert "checked" in page.one("input", name="news", type="checkbox")
    assert page.one("option", value="free").keys() >= {"selected"}
    assert "a&lt;2b" not in page.text
    assert "value" not in page.one("input", name="new_password")


async def test_a_refusal_of_a_value_stands_beside_its_field(ada: FormBrowser, app: FastAPI) -> None:
    await ada.open("/account/sign-up")
    bob = {**ACCOUNT, "email": "bob@example.com", "username": "bob"}
    page = await ada.submit("sign-up", **bob, phone="1")
    assert (page.status, "belongs to another account" in page.text) == (400, True)
    assert page.one("input", name="phone")["aria-describedby"] == "problem"

    @app.state.pluggable_auth.on(BeforeSignup)  # type: ignore[untyped-decorator]  # of a state without types
    async def refuse(event: BeforeSignup) -> None:
        assert event.extra == {"terms": True, "tags": []}
        raise Refused("Not today.", code="not_today")

    page = await ada.submit("sign-up", **bob)
    assert (page.status, "Not today." in page.text) == (403, True)
    assert page.one("input", name="company")["value"] == "Engines"


async def test_the_profile_shows_and_changes_the_fields_of_its_body(ada: FormBrowser) -> None:
    page = ada.page
    assert page.one("input", name="company")["value"] == "Engines"
    assert "checked" in page.one("input", name="news", type="checkbox")
    assert page.one("option", value="team").keys() >= {"selected"}
    changes = {"company": "Looms", "plan": "free", "seats": "4", "born_on": "", "phone": "", "about": "Two"}
    page = await ada.submit("name", display_name="Ada", **changes)
    assert (page.status, "Saved." in page.text) == (200, True)
    stored = await Customer.get()
    assert (stored.company, stored.plan, stored.seats, stored.born_on) == ("Looms", "free", 4, None)
    assert (stored.phone, stored.about, stored.news, stored.display_name) == (None, "Two", False, "Ada")
    page = await ada.submit("name", display_name="Countess", company="L", seats="", plan="free", about="")
    assert page.status == 422
    assert "at least 2 characters" in described(page, "company")
    assert "Please fill this in." in described(page, "seats")
    assert page.one("input", name="display_name")["value"] == "Countess"
    stored = await Customer.get()
    assert (stored.company, stored.about, stored.display_name) == ("Looms", "Two", "Ada")
    page = await ada.submit("name", display_name="", company="Looms", seats="4", plan="free", about="")
    assert page.status == 200
    stored = await Customer.get()
    assert (stored.about, stored.display_name) == ("", None)


async def test_a_form_without_the_own_fields_changes_none_of_them(ada: FormBrowser) -> None:
    """Such as that of a template which the host made before it had them."""
    before = await Customer.get()
    ada.page.form("name").hidden.pop("shown")
    page = await ada.submit("name", display_name="Ada")
    assert (page.status, "Saved." in page.text) == (200, True)
    after = await Customer.get()
    assert (after.company, after.plan, after.news, after.phone) == (
        before.company, before.plan, before.news, before.phone,
    )  # fmt: skip
    assert after.news


async def test_what_is_no_text_is_refused_whole(visitor: FormBrowser) -> None:
    await visitor.open("/account/sign-up")
    page = await visitor.submit("sign-up", **ACCOUNT | {"about": "a\0b"})
    assert (page.status, await Customer.all().count()) == (422, 0)
    form = visitor.page.forms[0] if visitor.page.forms else None
    assert form is None or "about" not in form.hidden


async def test_the_host_has_words_for_its_own_fields(visitor: FormBrowser, tmp_path: Path) -> None:
    (tmp_path / "de").mkdir()
    (tmp_path / "de" / "page_words.toml").write_text(
        '[fields]\ncompany = "Firma"\ncompany_hint = "Wie auf der Rechnung."\nphone_error = "Nur Ziffern."\n'
        '[choices]\nplan_team = "Gruppe"\n'
    )
    german = {"Accept-Language": "de"}
    page = await visitor.open("/account/sign-up", **german)
    for said in (
        ">Firma</label>",
        "Wie auf der Rechnung.",
        ">Gruppe</option>",
        "(optional)",
        "Bitte wählen",
    ):
        assert said in page.text
    visitor.client.headers["Accept-Language"] = "de"
    page = await visitor.submit("sign-up", **ACCOUNT | {"phone": "abc", "company": ""})
    assert described(page, "phone") == "Nur Ziffern."
    assert described(page, "company") == "Wie auf der Rechnung. Bitte füllen Sie dieses Feld aus."


async def test_bodies_may_have_other_names_for_their_fields_and_rules_for_the_whole(
    visitor: FormBrowser, settings: AuthSettings
) -> None:
    class Camel(UserCreate):
        model_config = ConfigDict(alias_generator=to_camel)
        username: Text
        company: Text
        plan: Plan
        seats: int
        display_name: Text = ""

        @model_validator(mode="after")
        def _all_in_all(self) -> Camel:
            if self.company == "Engines" and self.seats > 2:
                raise ValueError("That is {too} much.")
            return self

    class CamelProfile(ProfileUpdate):
        model_config = ConfigDict(alias_generator=to_camel)

    app = FastAPI()
    include_auth(
        app,
        settings=settings,
        user_model=Customer,
        user_create=Camel,
        profile_update=CamelProfile,
        pages=True,
    )
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url=BASE, headers=BROWSER) as client:
        visitor = FormBrowser(client)
        await visitor.open("/account/sign-up")
        typed = {name: text for name, text in ACCOUNT.items() if name != "terms"} | {"display_name": "Ada"}
        page = await visitor.submit("sign-up", **typed)
        assert (page.status, "That is {too} much." in page.text) == (422, True)
        await visitor.submit("sign-up", **typed | {"seats": "2"})
        assert (await Customer.get()).display_name == "Ada"
        await Customer.all().update(is_verified=True)
        await visitor.open("/account/sign-in")
        await visitor.submit("sign-in", email=EMAIL, password=PASSWORD)
        page = await visitor.submit("name", display_name="x\ny")
        assert (page.status, "A name is one line" in page.text) == (422, True)
        await visitor.submit("name", display_name="Countess")
        assert (await Customer.get()).display_name == "Countess"
    await app.state.pluggable_auth.close()


class Nested(BaseModel):
    x: int = 1


@pytest.mark.parametrize(
    ("annotation", "default"),
    [(Nested, Nested()), (list[str], []), (dict[str, int], {}), (datetime, None), (Any, 1)],
)
def test_what_no_page_can_ask_for_is_refused_at_start_unless_it_has_a_default(
    settings: AuthSettings, annotation: Any, default: Any
) -> None:
    class Holder(AbstractUser):
        data = fields.JSONField[Any](default=dict)

    kept = Annotated[annotation, NotStored]
    required = create_model("NewUser", __base__=UserCreate, data=(annotation, ...))
    marked = create_model("NewUser", __base__=UserCreate, extra_data=(kept, ...))
    optional = create_model("NewUser", __base__=UserCreate, data=(annotation, default))
    profile = create_model("Profile", __base__=ProfileUpdate, data=(annotation, ...))
    options: dict[str, Any] = {"settings": settings, "user_model": Holder}
    for refused in (
        {"user_create": required},
        {"user_create": marked},
        {"profile_update": profile},
    ):
        with pytest.raises(
            ValueError, match=r"(NewUser|Profile)\.(extra_)?data cannot be asked for on a page"
        ):
            include_auth(FastAPI(), **options, **refused, pages=True)
        include_auth(FastAPI(), **options, **refused)
    include_auth(FastAPI(), **options, user_create=optional, pages=True)


@pytest.mark.parametrize("name", ["csrf_token", "form", "shown", "new_password"])
def test_no_own_field_takes_the_place_of_one_of_the_page(settings: AuthSettings, name: str) -> None:
    fields: dict[str, Any] = {name: (Annotated[str, NotStored], "")}
    body = create_model("NewUser", __base__=UserCreate, **fields)
    with pytest.raises(ValueError, match=f"NewUser.{name} cannot be asked for .* choose another name"):
        include_auth(FastAPI(), settings=settings, user_create=body, pages=True)


KIM = {"email": "kim@example.com", "username": "Kim", "company": "Looms", "plan": "team", "seats": "3"}


@pytest.fixture
async def chief(ada: FormBrowser) -> FormBrowser:
    """An administrator."""
    await Customer.all().update(is_superuser=True)
    return ada


async def test_the_page_that_invites_asks_for_what_is_stored_of_a_signup(chief: FormBrowser) -> None:
    page = await chief.open("/account/invite")
    assert page.form("invite").fields.keys() >= {"email", "username", "company", "seats", "news"}
    assert page.form("invite").fields.keys() & {"terms", "tags", "password", "new_password"} == set()
    page = await chief.submit(
        "invite", email="kim@example.com", username="Kim", company="none", plan="", seats="99"
    )
    assert page.status == 422
    assert described(page, "company") == "As on your invoices. For example: Engines We know no such company."
    assert described(page, "seats") == "The largest possible number is 50."
    assert page.one("input", name="company")["value"] == "none"
    assert await Customer.all().count() == 1
    page = await chief.submit("invite", **KIM, phone="1")
    assert (page.status, "belongs to another account" in page.text) == (400, True)
    page = await chief.submit("invite", **KIM, news="true", country="AT")
    assert (page.status, "on its way" in page.text) == (200, True)
    kim = await Customer.get(email="kim@example.com")
    assert (kim.username, kim.company, kim.plan, kim.seats) == ("kim", "Looms", Plan.TEAM, 3)
    assert (kim.news, kim.country, kim.is_verified) == (True, "AT", False)


async def test_programs_invite_with_what_is_stored_of_a_signup(chief: FormBrowser, app: FastAPI) -> None:
    client = chief.client
    headers = {"Origin": BASE, "Accept": "application/json"}

    async def invite(**body: object) -> httpx.Response:
        return await client.post("/admin/invitations", json=body, headers=headers)

    refused = await invite(email="kim@example.com", roles=[])
    assert refused.status_code == 422
    assert {error["loc"][-1] for error in refused.json()["detail"]} == {
        "username",
        "company",
        "plan",
        "seats",
    }
    kim = {**KIM, "seats": 3}
    for name, value in (("password", PASSWORD), ("terms", True), ("is_superuser", True), ("company", "none")):
        refused = await invite(**{**kim, name: value})
        assert (refused.status_code, refused.json()["detail"][0]["loc"]) == (422, ["body", name])
    answer = await invite(**kim, display_name="K.")
    assert (answer.status_code, answer.json()["username"]) == (201, "kim")
    stored = await Customer.get(email="kim@example.com")
    assert (stored.company, stored.seats, stored.display_name) == ("Looms", 3, "K.")
    document = app.openapi()
    body = document["paths"]["/admin/invitations"]["post"]["requestBody"]["content"]["application/json"]
    assert body["schema"] == {"$ref": "#/components/schemas/Auth-InvitationRequest"}
    schema = document["components"]["schemas"]["Auth-InvitationRequest"]
    assert {*schema["required"]} == {"email", "username", "company", "plan", "seats"}
    assert schema["properties"].keys() >= {"roles", "display_name", "news"}
    assert schema["properties"].keys() & {"password", "terms", "tags"} == set()
