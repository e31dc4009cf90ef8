"""Signing up, in and out, and what bearer routes refuse."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI
from jose import jws
from passlib.hash import argon2, bcrypt

from fastapi_pluggable_auth import Auth, AuthSettings
from fastapi_pluggable_auth.email.tokens import Purpose
from fastapi_pluggable_auth.models import Mail, Session, User
from fastapi_pluggable_auth.security.jwt import ACCESS

from .conftest import EMAIL, PASSWORD, SECRET, Account, Clock, Mailbox, on_one_database

CREDENTIALS = {"email": EMAIL, "password": PASSWORD}
FULL_LENGTHS = [
    "é" * 36 + "x",
    "x" * 73,
    "x" * 1000,
    "\U0001f511" * 1024,
    " inner and outer ",
    "4071936582",
    "пароль-паролей",
]


async def test_a_new_user_signs_up_verifies_logs_in_and_is_known(
    client: httpx.AsyncClient, mailbox: Mailbox
) -> None:
    signup = await client.post("/auth/signup", json={"email": "Ada@Example.COM", "password": PASSWORD})
    assert signup.status_code == 201
    body = signup.json()
    assert body == {"id": body["id"], "email": EMAIL, "is_verified": False, "display_name": None}
    assert [message["To"] for message in mailbox.messages] == [EMAIL]
    assert (await client.get(mailbox.link())).status_code == 200
    login = await client.post("/auth/login", json=CREDENTIALS)
    assert set(login.json()) == {"access_token", "refresh_token", "token_type"}
    assert login.headers["cache-control"] == "no-store"
    me = await client.get("/auth/me", headers={"Authorization": f"Bearer {login.json()['access_token']}"})
    assert me.json() == body | {"is_verified": True}


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("ADA@EXAMPLE.com", "ada@example.com"),
        ("e\u0301ve@example.com", "\u00e9ve@example.com"),
        ("a@xn--bcher-kva.example.com", "a@b\u00fccher.example.com"),
        ("\u212aelvin@example.com", "kelvin@example.com"),
        ("user+tag@example.com", "user+tag@example.com"),
    ],
)
async def test_one_mailbox_is_one_account_in_every_spelling(
    typed: str, kept: str, client: httpx.AsyncClient, settings: AuthSettings
) -> None:
    """A-24, R-09."""
    settings.require_verified_email = False
    assert (await client.post("/auth/signup", json={"email": typed, "password": PASSWORD})).json()[
        "email"
    ] == kept
    for spelling in (typed, kept):
        answer = await client.post("/auth/signup", json={"email": spelling, "password": PASSWORD})
        assert (answer.status_code, answer.json()["code"]) == (400, "email_taken")
        login = await client.post("/auth/login", json={"email": spelling, "password": PASSWORD})
        assert login.status_code == 200


async def test_addresses_that_only_look_alike_are_two_accounts(client: httpx.AsyncClient) -> None:
    """MariaDB's default collation takes these for the same."""
    for address in ("jose@example.com", "jos\u00e9@example.com"):
        answer = await client.post("/auth/signup", json={"email": address, "password": PASSWORD})
        assert answer.status_code == 201
    assert (await User.get(email="jose@example.com")).email == "jose@example.com"


async def test_simultaneous_signups_make_one_account(client: httpx.AsyncClient, mailbox: Mailbox) -> None:
    """R-08."""
    spellings = [EMAIL.upper() if n % 2 else EMAIL for n in range(40)]
    answers = await asyncio.gather(
        *(client.post("/auth/signup", json={"email": email, "password": PASSWORD}) for email in spellings)
    )
    assert Counter(answer.status_code for answer in answers) == {201: 1, 400: 39}
    assert {answer.json()["code"] for answer in answers if answer.status_code == 400} == {"email_taken"}
    assert await User.all().count() == 1
    assert len(mailbox.messages) == 1


async def test_a_taken_address_looks_like_a_new_one_when_enumeration_is_prevented(
    client: httpx.AsyncClient, mailbox: Mailbox, settings: AuthSettings
) -> None:
    """A-19."""
    settings.prevent_enumeration = True
    first = await client.post("/auth/signup", json=CREDENTIALS)
    second = await client.post("/auth/signup", json=CREDENTIALS)
    assert (first.status_code, second.status_code) == (201, 201)
    assert second.json() == first.json() | {"id": second.json()["id"]}
    assert second.headers.keys() == first.headers.keys()
    assert await User.all().count() == 1
    verification, notice = mailbox.messages
    assert notice["To"] == EMAIL
    assert notice["Subject"] != verification["Subject"]


@on_one_database
@pytest.mark.parametrize("password", FULL_LENGTHS)
async def test_a_password_counts_in_full(
    password: str, client: httpx.AsyncClient, settings: AuthSettings
) -> None:
    """A-02 to A-04: every byte, no trimming, no folding."""
    settings.require_verified_email = False
    signup = await client.post("/auth/signup", json={"email": EMAIL, "password": password})
    assert signup.status_code == 201, signup.text
    assert (await client.post("/auth/login", json={"email": EMAIL, "password": password})).status_code == 200
    for other in (
        password[:-1],
        password + " ",
        " " + password,
        password[:-1] + "z",
        password.swapcase() + "!",
    ):
        answer = await client.post("/auth/login", json={"email": EMAIL, "password": other})
        assert answer.status_code in (401, 422), other


@on_one_database
async def test_nothing_may_follow_a_password_of_72_bytes(
    client: httpx.AsyncClient, settings: AuthSettings
) -> None:
    """A-03: plain bcrypt would not look at the 73rd byte, and is what others have cut at the 72nd."""
    settings.require_verified_email = False
    await client.post("/auth/signup", json={"email": EMAIL, "password": "p" * 72})
    assert (await User.get()).hashed_password.startswith("$bcrypt-sha256$")
    for password, status in (("p" * 72, 200), ("p" * 73, 401), ("p" * 72 + "\u0394", 401)):
        answer = await client.post("/auth/login", json={"email": EMAIL, "password": password})
        assert answer.status_code == status


@on_one_database
@pytest.mark.parametrize("password", ["short77", "\U0001f511" * 7, "x" * 1025, "", "nul\0nul\0nul"])
async def test_a_password_outside_the_limits_is_refused(password: str, client: httpx.AsyncClient) -> None:
    """A-01, A-02."""
    answer = await client.post("/auth/signup", json={"email": EMAIL, "password": password})
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_error")
    assert await User.all().count() == 0


@on_one_database
@pytest.mark.parametrize(
    ("password", "status"),
    [
        ("password1", 422),
        ("PassWord1", 422),
        ("football1", 422),
        ("12345678", 422),
        ("TestPass123", 201),
        ("newpw123", 201),
        ("my football team", 201),
    ],
)
async def test_common_passwords_are_refused_as_a_whole_only(
    password: str, status: int, client: httpx.AsyncClient
) -> None:
    """A-05."""
    answer = await client.post("/auth/signup", json={"email": EMAIL, "password": password})
    assert answer.status_code == status
    if status == 422:
        assert answer.json()["code"] == "password_too_common"


async def test_a_login_that_fails_tells_nothing(account: Account, client: httpx.AsyncClient) -> None:
    """A-17: one answer for unknown, wrong, disabled and unverified."""
    for email, changes in (("off@example.com", {"is_active": False}), ("new@example.com", {})):
        await client.post("/auth/signup", json={"email": email, "password": PASSWORD})
        if changes:
            await User.filter(email=email).update(**changes)
    attempts = [
        ("nobody@example.com", PASSWORD),
        (EMAIL, "wrong password"),
        ("off@example.com", PASSWORD),
        ("off@example.com", "wrong password"),
        ("new@example.com", "wrong password"),
        (EMAIL, ""),
    ]
    answers = [
        await client.post("/auth/login", json={"email": email, "password": password})
        for email, password in attempts
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.content for answer in answers}) == 1
    assert len({tuple(answer.headers.items()) for answer in answers}) == 1
    assert answers[0].json()["code"] == "invalid_credentials"


async def test_an_unverified_address_is_told_only_after_the_right_password(
    client: httpx.AsyncClient, settings: AuthSettings
) -> None:
    """A-27."""
    await client.post("/auth/signup", json=CREDENTIALS)
    answer = await client.post("/auth/login", json=CREDENTIALS)
    assert (answer.status_code, answer.json()["code"]) == (401, "email_not_verified")
    assert await Session.all().count() == 0
    settings.require_verified_email = False
    assert (await client.post("/auth/login", json=CREDENTIALS)).status_code == 200


async def test_an_outdated_hash_is_renewed_at_login(account: Account, settings: AuthSettings) -> None:
    """A-10."""
    weak = bcrypt.using(rounds=4).hash(PASSWORD)
    await User.all().update(hashed_password=weak)
    settings.bcrypt_rounds = 5
    assert (await account.login()).status_code == 200
    assert (await User.get()).hashed_password.startswith("$2b$05$")
    assert (await account.login()).status_code == 200
    settings.password_scheme = "argon2"
    assert (await account.login()).status_code == 200
    assert argon2.identify((await User.get()).hashed_password)
    assert (await account.login()).status_code == 200


@on_one_database
async def test_the_same_password_has_two_hashes(register: Callable[..., Any]) -> None:
    """A-10."""
    await register("one@example.com")
    await register("two@example.com")
    one, two = await User.all()
    assert one.hashed_password != two.hashed_password


async def test_logging_out_ends_every_session_at_once_and_may_be_repeated(account: Account) -> None:
    """A-46."""
    other = Account(account.client, account.mailbox, EMAIL, PASSWORD)
    await other.login()
    for _ in range(2):
        answer = await account.client.post("/auth/logout", headers=account.headers)
        assert answer.status_code == 200
    for one in (account, other):
        assert (await one.me()).status_code == 401
        assert (await one.refresh()).status_code == 401
    assert (await account.login()).status_code == 200


async def test_logging_out_of_one_device_ends_that_session_alone(account: Account, auth: Auth) -> None:
    other = Account(account.client, account.mailbox, EMAIL, PASSWORD)
    await other.login()
    here = {"everywhere": False}
    for _ in range(2):  # the second is a repeated logout, which ends nothing
        answer = await account.client.post("/auth/logout", json=here, headers=account.headers)
        assert answer.status_code == 200
        assert (await account.me()).status_code == 401
        assert (await other.me()).status_code == 200
    assert (await account.refresh()).status_code == 401
    assert await Session.filter(revoked_at=None).count() == 1
    # A token that the app has made has no session to end.
    user = await User.get()
    minted = {"Authorization": f"Bearer {auth.signer.access_token(user.id)}"}
    assert (await account.client.post("/auth/logout", json=here, headers=minted)).status_code == 200
    assert (await other.me()).status_code == 200
    for body in ({"everywhere": True}, {}):
        await account.login()
        answer = await account.client.post("/auth/logout", json=body, headers=account.headers)
        assert (answer.status_code, await Session.filter(revoked_at=None).count()) == (200, 0)


async def test_nothing_else_in_its_body_keeps_a_logout_from_signing_out(account: Account) -> None:
    """Clients of 0.1 may send any body to a route that looked at none."""
    other = Account(account.client, account.mailbox, EMAIL, PASSWORD)
    unknown = {"refresh_token": "x", "": None, "\u0000": [[]], **{f"k{n}": n for n in range(2000)}}
    for body, ends_all in (
        (None, True),
        ({}, True),
        ({"token": "x"}, True),
        (unknown, True),
        ({"everywhere": True, **unknown}, True),
        ({"everywhere": False, **unknown}, False),
    ):
        await account.login()
        await other.login()
        answer = await account.client.post(
            "/auth/logout",
            content=json.dumps(body),
            headers=account.headers | {"Content-Type": "application/json"},
        )
        assert answer.status_code == 200, answer.text
        assert (await account.me()).status_code == 401
        assert (await other.me()).status_code == (401 if ends_all else 200)
    await account.login()
    for content in ('{"everywhere": "no"}', '{"everywhere": null}', '{"everywhere": false', "[]", "no"):
        answer = await account.client.post(
            "/auth/logout", content=content, headers=account.headers | {"Content-Type": "application/json"}
        )
        assert (answer.status_code, (await account.me()).status_code) == (422, 200), content


async def test_a_login_during_a_password_change_leaves_no_session_of_the_old_password(
    account: Account,
) -> None:
    """R-12."""
    passwords = [PASSWORD, "another good one"]
    for round_number in range(20):
        old, new = passwords[round_number % 2], passwords[(round_number + 1) % 2]
        account.password = old
        await account.login()
        late = Account(account.client, account.mailbox, EMAIL, old)
        body = {"old_password": old, "new_password": new}
        changed, login = await asyncio.gather(
            account.client.post("/account/change-password", json=body, headers=account.headers), late.login()
        )
        assert changed.status_code == 204, changed.text
        if login.status_code == 200:
            assert (await late.me()).status_code == 401
            assert (await late.refresh()).status_code == 401


async def test_reauthentication_takes_the_password_of_the_user(account: Account, clock: Clock) -> None:
    async def confirm(password: str) -> httpx.Response:
        body = {"password": password}
        return await account.client.post("/auth/reauthenticate", json=body, headers=account.headers)

    wrong = await confirm("wrong password")
    assert (wrong.status_code, wrong.json()["code"]) == (403, "reauthentication_failed")
    clock.advance(minutes=16)
    await account.login()
    clock.advance(minutes=14)
    assert (await confirm(PASSWORD)).status_code == 200
    clock.advance(minutes=0.9)
    assert (await account.me()).status_code == 200


def mint(claims: dict[str, Any], key: str = SECRET, algorithm: str = "HS256", **headers: Any) -> str:
    token: str = jws.sign(claims, key, headers={"typ": ACCESS, **headers}, algorithm=algorithm)
    return token


async def refused_tokens(auth: Auth, account: Account) -> dict[str, str]:
    """Tokens that must not authenticate, by what is wrong with them."""
    user, session = await User.get(), await Session.all().first()
    assert session is not None
    now = int(time.time())
    good = {
        "sub": str(user.id), "jti": "x", "iat": now, "exp": now + 60,
        "sid": str(session.id), "iss": "http://localhost:8000", "aud": "http://localhost:8000",
    }  # fmt: skip
    assert (await account.me(mint(good))).status_code == 200

    def without(name: str) -> dict[str, Any]:
        return {key: value for key, value in good.items() if key != name}

    header = base64.urlsafe_b64encode(b'{"alg":"none","typ":"at+jwt"}').rstrip(b"=").decode()
    payload = base64.urlsafe_b64encode(json.dumps(good).encode()).rstrip(b"=").decode()
    moment = auth.clock()
    late = moment + timedelta(hours=1)
    return {
        "no token": "nonsense",
        "empty parts": "..",
        "algorithm none": f"{header}.{payload}.",
        "another algorithm": mint(good, algorithm="HS512"),
        "a foreign key": mint(good, "f" * 48),
        "an empty key": mint(good, ""),
        "cut": mint(good)[:-4],
        "a critical extension": mint(good, crit=["b64"], b64=True),
        "expired": mint(good | {"exp": now - 1}),
        "expiry as text": mint(good | {"exp": str(now + 60)}),
        "expiry as true": mint(good | {"exp": True}),
        "no expiry": mint(without("exp")),
        "expiry beyond time": mint(good | {"exp": 10**30}),
        "expiry with a fraction": mint(good | {"exp": now + 60.5}),
        "no time of issue": mint(without("iat")),
        "a time of issue as text": mint(good | {"iat": str(now)}),
        "a time of issue before time": mint(good | {"iat": -(10**18)}),
        "not yet valid, as text": mint(good | {"nbf": "0"}),
        "no issuer": mint(without("iss")),
        "another issuer": mint(good | {"iss": "https://other.example.com"}),
        "no audience": mint(without("aud")),
        "another audience": mint(good | {"aud": "https://other.example.com"}),
        "several audiences": mint(good | {"aud": ["http://localhost:8000", "https://other.example.com"]}),
        "no token id": mint(without("jti")),
        "an unknown key id": mint(good, kid="0123456789abcdef"),
        "a key id that is a path": mint(good, kid="../../dev/null"),
        "a key id that is no text": mint(good, kid=["x"]),
        "a null key id": mint(good, kid=None),
        "a key of its own": mint(good, "f" * 48, jwk={"kty": "oct", "k": "ZmZm"}),
        "keys from elsewhere": mint(good, "f" * 48, jku="http://127.0.0.1:1/jwks", x5u="http://127.0.0.1:1/"),
        "padding": mint(good) + "=",
        "a fourth part": mint(good) + ".x",
        "a word more": f"{mint(good)} x",
        "from the future": mint(good | {"iat": now + 600}),
        "not yet valid": mint(good | {"nbf": now + 600}),
        "no subject": mint(without("sub")),
        "a number as subject": mint(good | {"sub": 1}),
        "no UUID as subject": mint(good | {"sub": "1"}),
        "an unknown subject": mint(good | {"sub": str(uuid4())}),
        "no type": mint(good, typ=None),
        "the type of 0.1": mint(good | {"scope": "access"}, typ="JWT"),
        "a session of nobody": mint(good | {"sid": str(uuid4())}),
        "no UUID as session": mint(good | {"sid": "1"}),
        "null as session": mint(good | {"sid": None}),
        "a list": jws.sign(b"[]", SECRET, headers={"typ": ACCESS}, algorithm="HS256"),
        "no JSON": jws.sign(b"x", SECRET, headers={"typ": ACCESS}, algorithm="HS256"),
        "deep JSON": jws.sign(b"[" * 3000, SECRET, headers={"typ": ACCESS}, algorithm="HS256"),
        "too long": mint(good | {"pad": "x" * 9000}),
        "a refresh token": account.refresh_token,
        "a link": auth.links.generate(Purpose.VERIFY, user.id),
        "a reset link": auth.signer.sign("reset", user.id, issued_at=moment, expires_at=late),
    }


@on_one_database
async def test_every_bad_access_token_gets_the_same_refusal(auth: Auth, account: Account) -> None:
    """A-53 to A-63."""
    answers = {name: await account.me(token) for name, token in (await refused_tokens(auth, account)).items()}
    assert {name: answer.status_code for name, answer in answers.items() if answer.status_code != 401} == {}
    assert {answer.content for answer in answers.values()} == {
        b'{"detail":"The token is not valid.","code":"invalid_token"}'
    }
    assert {answer.headers["www-authenticate"] for answer in answers.values()} == {
        'Bearer error="invalid_token"'
    }


@on_one_database
async def test_every_bad_refresh_token_gets_the_same_refusal(auth: Auth, account: Account) -> None:
    """A-56."""
    tokens = await refused_tokens(auth, account)
    del tokens["a refresh token"], tokens["too long"]
    tokens["an access token"] = account.access_token
    answers = [await account.refresh(token) for token in tokens.values()]
    assert {answer.content for answer in answers} == {
        b'{"detail":"The token is not valid.","code":"invalid_token"}'
    }


@on_one_database
@pytest.mark.parametrize("header", [None, "", "Bearer", "Basic YTpi", "Token x"])
async def test_a_missing_access_token_is_challenged_without_an_error(
    header: str | None, client: httpx.AsyncClient
) -> None:
    """RFC 6750 section 3."""
    headers = {} if header is None else {"Authorization": header}
    answer = await client.get("/auth/me", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")
    assert answer.headers["www-authenticate"] == "Bearer"


@on_one_database
async def test_two_authorization_headers_are_refused(account: Account) -> None:
    header = ("Authorization", f"Bearer {account.access_token}")
    for other in (header, ("Authorization", "Basic YTpi"), ("Authorization", "Bearer")):
        for both in ([header, other], [other, header]):
            answer = await account.client.get("/auth/me", headers=both)
            assert answer.json()["code"] == "invalid_token"


@on_one_database
async def test_tokens_in_the_address_are_ignored(account: Account) -> None:
    """A-51."""
    answer = await account.client.get("/auth/me", params={"access_token": account.access_token})
    assert answer.status_code == 401
    answer = await account.client.post("/auth/refresh", params={"token": account.refresh_token})
    assert answer.status_code == 422


@on_one_database
async def test_an_access_token_expires(account: Account, clock: Clock) -> None:
    clock.advance(minutes=15, seconds=-2)
    assert (await account.me()).status_code == 200
    clock.advance(seconds=3)
    assert (await account.me()).status_code == 401


@on_one_database
async def test_an_access_token_says_no_more_than_it_must(account: Account) -> None:
    """A-61."""
    payload = account.access_token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    assert set(claims) == {
        "iss",
        "aud",
        "sub",
        "jti",
        "iat",
        "exp",
        "sid",
        "gen",
        "transport",
        "amr",
    }


@on_one_database
async def test_a_full_hashing_queue_is_503_and_counts_nothing(
    client: httpx.AsyncClient, settings: AuthSettings, app: FastAPI
) -> None:
    """A-87, R-40."""
    settings.hashing_queue_size = 1
    settings.bcrypt_rounds = 8
    answers = await asyncio.gather(
        *(
            client.post("/auth/signup", json={"email": f"u{n}@example.com", "password": PASSWORD})
            for n in range(30)
        )
    )
    counted = Counter(answer.status_code for answer in answers)
    assert set(counted) == {201, 503}
    refused = next(answer for answer in answers if answer.status_code == 503)
    assert refused.json()["code"] == "overloaded"
    assert int(refused.headers["retry-after"]) > 0
    assert await User.all().count() == counted[201] == await Mail.all().count()
