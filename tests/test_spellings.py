"""One address, name, code or password in every spelling: blanks, normal forms, special domains."""

from __future__ import annotations

import argparse
import io
import time
import unicodedata

import bcrypt
import httpx
import pyotp
import pytest
from tortoise.context import TortoiseContext

from fastapi_pluggable_auth import Auth, AuthError, AuthSettings
from fastapi_pluggable_auth.commands.users import _create, add_to
from fastapi_pluggable_auth.features.administration.importing import import_users
from fastapi_pluggable_auth.features.administration.users import create_user, find_user
from fastapi_pluggable_auth.models import User
from fastapi_pluggable_auth.security.addresses import normalise_email
from fastapi_pluggable_auth.security.passwords import is_storable
from fastapi_pluggable_auth.security.totp import verify_code

from .conftest import EMAIL, PASSWORD, Account, Mailbox, on_each_database

DIALECTS = ("sqlite",)
BLANKS = [" {}", "{}\t", "\u00a0{} ", "\u200b{}\ufeff", "\r\n{}\n", "\u3000{}\u2060", "\u202a{}\u202c"]
NFC = "caf\u00e9 au lait \u1f82"
NFD = unicodedata.normalize("NFD", NFC)


@pytest.fixture
def auth(auth: Auth, tortoise: TortoiseContext) -> Auth:
    """On an empty database."""
    return auth


async def log_in(client: httpx.AsyncClient, password: str, email: str = EMAIL) -> int:
    return (await client.post("/auth/login", json={"email": email, "password": password})).status_code


# --- blanks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blanks", BLANKS)
async def test_blanks_around_an_address_are_cut_wherever_one_is_taken(
    blanks: str, auth: Auth, client: httpx.AsyncClient, settings: AuthSettings
) -> None:
    settings.require_verified_email = False
    typed = blanks.format(EMAIL)
    answer = await client.post("/auth/signup", json={"email": typed, "password": PASSWORD})
    assert (answer.status_code, answer.json()["email"]) == (201, EMAIL)
    assert await log_in(client, PASSWORD, typed) == 200
    for path in ("/auth/forgot-password", "/auth/verify/resend"):
        assert (await client.post(path, json={"email": typed})).status_code == 200
    assert (await find_user(auth, typed)).email == EMAIL
    made = await create_user(auth, blanks.format("b@example.com"))
    assert made.email == "b@example.com"
    lines = io.StringIO('email\n"' + blanks.format("c@example.com") + '"\n')
    assert [batch.imported async for batch in import_users(auth, lines)] == [1]
    assert await User.exists(email="c@example.com")


@pytest.mark.parametrize("inside", ["a da@example.com", "ada@exam\u200bple.com", "ada\u00a0@example.com"])
def test_blanks_inside_an_address_are_a_mistake(inside: str) -> None:
    with pytest.raises(ValueError, match="not a valid"):
        normalise_email(inside)


@pytest.mark.parametrize("blanks", [*BLANKS, "{} "])
async def test_blanks_in_a_code_are_cut_in_json_too(blanks: str, account: Account, auth: Auth) -> None:
    """Also in the middle, as apps show it; in a recovery code as well."""
    enabled = await account.client.post("/auth/2fa/enable", headers=account.headers)
    totp = pyotp.parse_uri(enabled.json()["otpauth_uri"])
    assert isinstance(totp, pyotp.TOTP)

    def code() -> str:
        now = totp.at(auth.clock())
        return now[:3] + blanks.format("") + now[3:] + blanks.format("")

    confirmed = await account.client.post("/auth/2fa/verify", json={"code": code()}, headers=account.headers)
    assert confirmed.status_code == 200
    body = {"email": EMAIL, "password": PASSWORD}
    assert (await account.client.post("/auth/login", json=body | {"code": code()})).status_code == 200
    made = await account.client.post("/auth/2fa/recovery-codes", headers=account.headers)
    (first, *_) = made.json()["codes"]
    typed = blanks.format(first[:7]) + blanks.format(first[7:])
    assert (await account.client.post("/auth/login", json=body | {"code": typed})).status_code == 200


def test_the_helper_cuts_blanks_in_a_code_too() -> None:
    secret = pyotp.random_base32()
    now = pyotp.TOTP(secret).now()
    assert verify_code(secret, f" {now[:3]}\u00a0{now[3:]}\n")


# --- normal forms ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "then"), [(NFC, NFD), (NFD, NFC)])
async def test_a_password_is_one_in_both_normal_forms(
    first: str, then: str, auth: Auth, client: httpx.AsyncClient, mailbox: Mailbox, settings: AuthSettings
) -> None:
    """RFC 8265: from signing up to changing it, by a link and by a script."""
    settings.require_verified_email = False
    await client.post("/auth/signup", json={"email": EMAIL, "password": first})
    assert [await log_in(client, each) for each in (first, then)] == [200, 200]
    login = await client.post("/auth/login", json={"email": EMAIL, "password": then})
    headers = {"Authorization": f"Bearer {login.json()['access_token']}"}
    body = {"old_password": then, "new_password": f"{first} 2"}
    assert (await client.post("/account/change-password", json=body, headers=headers)).status_code == 204
    assert await log_in(client, f"{then} 2") == 200
    await client.post("/auth/forgot-password", json={"email": EMAIL})
    reset = {"new_password": f"{then} 3"}
    assert (await client.post(f"/auth/reset-password/{mailbox.token()}", json=reset)).status_code == 200
    assert await log_in(client, f"{first} 3") == 200
    made = await create_user(auth, "b@example.com", first)
    assert made.hashed_password
    assert await log_in(client, then, "b@example.com") == 200


@pytest.mark.parametrize("typed", [NFD, "\u212bngstr\u00f6m 12", "x" * 70 + NFD])
async def test_a_hash_of_the_raw_form_still_fits_and_is_replaced(
    typed: str, auth: Auth, client: httpx.AsyncClient
) -> None:
    """As systems that do not normalise have made it, 0.1 among them."""
    assert unicodedata.normalize("NFC", typed) != typed
    raw = bcrypt.hashpw(typed.encode()[:72], bcrypt.gensalt(4)).decode()
    await User.create(email=EMAIL, hashed_password=raw, is_verified=True)
    normal = unicodedata.normalize("NFC", typed)
    assert await log_in(client, f"{typed}x"[1:]) == 401
    assert await log_in(client, typed) == 200
    assert (await User.get()).hashed_password != raw
    assert [await log_in(client, each) for each in (normal, typed)] == [200, 200]


@on_each_database
async def test_lengths_count_in_nfc(auth: Auth, client: httpx.AsyncClient) -> None:
    longest, too_long = "\u1f82" * 1024, "\u1f82" * 1025
    for number, (password, status) in enumerate(
        [
            (unicodedata.normalize("NFD", longest), 201),
            (unicodedata.normalize("NFD", too_long), 422),
            ("e\u0301" * 7, 422),
            ("e\u0301" * 8, 201),
        ]
    ):
        body = {"email": f"u{number}@example.com", "password": password}
        assert (await client.post("/auth/signup", json=body)).status_code == status
        assert is_storable(password) is (status == 201)
    assert await log_in(client, unicodedata.normalize("NFD", too_long)) == 422
    local = unicodedata.normalize("NFD", "\u1f82" * 20)
    for name in (local, unicodedata.normalize("NFC", local)):
        assert normalise_email(f"{name}@example.com") == f"{unicodedata.normalize('NFC', local)}@example.com"


@on_each_database
async def test_what_is_long_to_normalise_is_refused_first(client: httpx.AsyncClient, auth: Auth) -> None:
    """Marks in the wrong order are sorted one by one, which takes the square of the time."""
    marks = "a" + "\u0301\u0316" * 100_000
    started = time.perf_counter()
    for body in ({"email": EMAIL, "password": marks}, {"email": f"{marks}@example.com", "password": "x"}):
        for path in ("/auth/signup", "/auth/login"):
            assert (await client.post(path, json=body)).status_code == 422
    with pytest.raises(ValueError, match="not a valid"):
        normalise_email(f"{marks}@example.com")
    assert not is_storable(marks)
    assert time.perf_counter() - started < 5


# --- special domains -------------------------------------------------------------------------------------

SPECIAL = ["ada@app.test", "ada@printer.local", "ada@crm.corp.internal", "ada@localhost"]


@pytest.mark.parametrize("address", SPECIAL)
async def test_an_address_of_a_special_domain_is_taken_where_the_setting_says_so(
    address: str, auth: Auth, client: httpx.AsyncClient, settings: AuthSettings
) -> None:
    """In JSON, by a script and by an import; off by default."""
    settings.require_verified_email = False

    async def everywhere() -> list[bool]:
        for each in await User.all():
            await each.delete()
        body = {"email": address, "password": PASSWORD}
        taken = [(await client.post("/auth/signup", json=body)).status_code == 201]
        taken.append(await log_in(client, PASSWORD, address) == 200)
        await User.all().delete()
        lines = io.StringIO(f"email\n{address}\n")
        taken += [batch.imported == 1 async for batch in import_users(auth, lines)]
        await User.all().delete()
        try:
            taken.append((await create_user(auth, address)).email == address)
        except AuthError:
            taken.append(False)
        return taken

    if not address.endswith("internal"):  # which is not special to every version of email-validator
        assert await everywhere() == [False] * 4
    settings.email_special_domains = ["test", "local", "internal", "localhost"]
    assert await everywhere() == [True] * 4
    parser = argparse.ArgumentParser()
    add_to(parser)
    options = parser.parse_args(["create", f"b{address}", "--no-password", "--verified"])
    assert await _create(options, auth) == 0
    assert (await find_user(auth, f"b{address}".upper())).email == f"b{address}"
    settings.email_special_domains = ["corp.example"]
    if not address.endswith("internal"):
        assert await everywhere() == [False] * 4


def test_a_special_domain_is_one_with_all_below_it_and_nothing_else() -> None:
    for address in ("a@test", "a@x.test", "A@X.Y.TEST", "a@\uff38.\uff34\uff25\uff33\uff34"):
        assert normalise_email(address, ["test"]).endswith("test")
    for address in (
        "a@latest",
        "a@test.localhost",
        "a@test.",
        "a@.test",
        "a@x..test",
        "a b@x.test",
        "a@[::1]",
    ):
        with pytest.raises(ValueError, match="not a valid"):
            normalise_email(address, ["test"])


def test_the_setting_takes_domains_only() -> None:
    settings = AuthSettings(_env_file=None, email_special_domains=".Test, corp.internal")
    assert settings.email_special_domains == ["test", "corp.internal"]
    with pytest.raises(ValueError, match="not a domain"):
        AuthSettings(_env_file=None, email_special_domains="a@b")
