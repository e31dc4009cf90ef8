"""Accounts come from a CSV file with the hashes of other systems, once each, also when it is interrupted."""

from __future__ import annotations

import asyncio
import base64
import csv
import hashlib
import io
import os
import pty
import random
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Awaitable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import argon2
import bcrypt
import django.conf
import django.contrib.auth.hashers
import httpx
import passlib.hash
import pytest
import werkzeug.security
from tortoise.context import TortoiseContext

from fastapi_pluggable_auth import Auth, AuthSettings
from fastapi_pluggable_auth.commands.database import connected
from fastapi_pluggable_auth.features.administration.importing import Batch, ImportFileError, import_users
from fastapi_pluggable_auth.flows.passwords import check_password
from fastapi_pluggable_auth.models import Mail, User
from fastapi_pluggable_auth.security.hashing import (
    PasswordCheck,
    PasswordHasher,
    imported_hash,
    is_usable,
    verify_password,
)
from fastapi_pluggable_auth.security.plaintext import Plaintext
from fastapi_pluggable_auth.security.rehashes import rehash_note

from . import databases, own_tables
from .conftest import EMAIL, PASSWORD, SECRET, Database, on_one_database
from .own_tables import Company
from .own_tables import User as Member
from .spare_database import SpareDatabase

COMMAND = [sys.executable, "-m", "fastapi_pluggable_auth", "users", "import"]


def _samples() -> dict[str, str]:
    """The usual password, as systems store it."""
    secret = PASSWORD.encode()
    made = {
        "bcrypt 2b": bcrypt.hashpw(secret, bcrypt.gensalt(4)).decode(),
        "bcrypt 2a": bcrypt.hashpw(secret, bcrypt.gensalt(4, b"2a")).decode(),
    }
    made["bcrypt 2y"] = made["bcrypt 2b"].replace("$2b$", "$2y$")
    for kind in argon2.Type:
        hasher = argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1, type=kind)
        made[f"argon2 {kind.name}"] = hasher.hash(PASSWORD)
    for name in ("pbkdf2_sha256", "pbkdf2_sha512", "pbkdf2_sha1"):
        made[f"passlib {name}"] = getattr(passlib.hash, name).using(rounds=10).hash(PASSWORD)
    for name in ("pbkdf2_sha256", "pbkdf2_sha1", "bcrypt_sha256", "bcrypt"):
        handler = getattr(passlib.hash, f"django_{name}")
        made[f"Django {name}"] = handler.using(rounds=4 if "bcrypt" in name else 10).hash(PASSWORD)
    made["Django argon2"] = f"argon2{made['argon2 ID']}"
    made["passlib scrypt"] = passlib.hash.scrypt.using(rounds=4).hash(PASSWORD)
    made["passlib phpass"] = passlib.hash.phpass.using(rounds=7).hash(PASSWORD)
    made["phpBB"] = passlib.hash.phpass.using(rounds=7, ident="H").hash(PASSWORD)
    for method in ("scrypt:1024:8:1", "pbkdf2:sha256:10", "pbkdf2:sha512:10", "pbkdf2:sha1:10"):
        made[f"Werkzeug {method}"] = werkzeug.security.generate_password_hash(PASSWORD, method)
    made |= _django_samples()
    # PHP 8.2: '$wp' . password_hash(base64_encode(hash_hmac('sha384', $password, 'wp-sha384', true)), ...),
    # as WordPress 6.8 does.
    made["WordPress"] = "$wp$2y$04$u3xSJiAsX/nLqKmT3b5I9Omz6QRIUk5vZhgioKbAsHfclRyEcmx76"
    for name, length in (("sha1", 20), ("sha256", 32), ("sha512", 64), ("sha512", 32)):
        digest = hashlib.pbkdf2_hmac(name, secret, b"some salt", 10, length)
        salt, text = (base64.b64encode(part).decode().rstrip("=") for part in (b"some salt", digest))
        made[f"PHC {name} {length}"] = f"$pbkdf2-{name}$i=10,l={length}${salt}${text}"
    made["PHC without a length"] = made["PHC sha512 64"].replace(",l=64", "")
    return made


def _django_samples() -> dict[str, str]:
    """By Django itself, whose default scrypt has 64 MiB."""
    if not django.conf.settings.configured:
        django.conf.settings.configure()
    scrypt = django.contrib.auth.hashers.ScryptPasswordHasher()
    pbkdf2 = django.contrib.auth.hashers.PBKDF2PasswordHasher()
    bcrypt_sha256 = django.contrib.auth.hashers.BCryptSHA256PasswordHasher()
    bcrypt_sha256.rounds = 4
    return {
        "Django's own scrypt": scrypt.encode(PASSWORD, "some-salt", n=16),
        "Django's own PBKDF2": pbkdf2.encode(PASSWORD, "some-salt", iterations=10),
        "Django's own bcrypt": bcrypt_sha256.encode(PASSWORD, bcrypt_sha256.salt()),
    }


FIREBASE = (
    "$fbscrypt$v=1,n=14,r=8,p=1,ss=Bw==,"
    "sk=jxspr8Ki0RYycVU8zykbdLGjFQ3McFUH0uiiTvC8pVMXAn210wjLNmdZJzxUECKbm0QsEmYUSDzZvpjeJ9WmXA=="
    "$42xEC+ixf3L2lw==$lSrfV15cpx95/sZS2W9c9Kp6i/LVgQNDNC/qzrCnh1SAyZvqmZqAjTdn3aoItz+VHjoZilo78198JAdRuid5lQ=="
)
"""Of `user1password`: the example of Firebase's own tool (github.com/firebase/scrypt, README)."""


HASHES = _samples()
BITS = "a" * 21 + "u" + "a" * 31
"""Of salt and digest."""


@pytest.fixture
def auth(auth: Auth, tortoise: TortoiseContext) -> Auth:
    """On an empty database."""
    return auth


async def load(auth: Auth, lines: str | Iterable[str], **options: int) -> Batch:
    """What became of all rows."""
    total = Batch()
    async for batch in import_users(auth, io.StringIO(lines) if isinstance(lines, str) else lines, **options):
        total.imported += batch.imported
        total.skipped += batch.skipped
        total.refused += batch.refused
    return total


def counts(batch: Batch) -> tuple[int, int, int]:
    return batch.imported, batch.skipped, len(batch.refused)


def written(header: list[str], *rows: list[str]) -> str:
    file = io.StringIO()
    csv.writer(file).writerows([header, *rows])
    return file.getvalue()


# --- hashes ----------------------------------------------------------------------------------------------


async def test_every_hash_logs_in_and_is_replaced_by_todays(auth: Auth, client: httpx.AsyncClient) -> None:
    rows = [[f"u{n}@example.com", hashed, "true"] for n, hashed in enumerate(HASHES.values())]
    assert counts(await load(auth, written(["email", "hashed_password", "is_verified"], *rows))) == (
        len(HASHES),
        0,
        0,
    )
    for (email, _, _), name in zip(rows, HASHES, strict=True):
        body = {"email": email, "password": "wrong"}
        assert (await client.post("/auth/login", json=body)).status_code == 401, name
        for _ in range(2):
            answer = await client.post("/auth/login", json=body | {"password": PASSWORD})
            assert answer.status_code == 200, name
            assert (await User.get(email=email)).hashed_password.startswith("$2"), name


@on_one_database
@pytest.mark.parametrize(
    ("hashed", "password"),
    [
        (FIREBASE, "user1password"),
        # Of phpass's own tests.
        ("$P$9IQRaTwmfeRo7ud9Fh4E2PdI0S3r.L0", "test12345"),
        # PHP 8.2, as above; WordPress cuts the blanks of "  caf\u00e9 12345 \t" before it hashes.
        ("$wp$2y$04$9/mjZ3iitCPivLgGy1abueEd85BSkIlLrygT.hppY9n.EMTVuuI1m", "  caf\u00e9 12345 "),
        # PHP's password_hash, which takes 72 of these 84 bytes.
        ("$2y$04$odVqg2o6wup.BsH4J.fmM.hoJZWHuVbG7MK.BAnIEbUYtBI7n52ca", "long password " * 6),
    ],
)
async def test_a_hash_of_another_program_logs_in_and_is_replaced(
    hashed: str, password: str, auth: Auth, client: httpx.AsyncClient
) -> None:
    await load(auth, written(["email", "hashed_password", "is_verified"], [EMAIL, hashed, "1"]))
    wrong = await client.post("/auth/login", json={"email": EMAIL, "password": f"x{password}"})
    assert wrong.status_code == 401
    for _ in range(2):
        answer = await client.post("/auth/login", json={"email": EMAIL, "password": password})
        assert answer.status_code == 200
        assert (await User.get()).hashed_password.startswith(("$2b$", "$bcrypt-sha256$"))
    if len(password) > 72:
        cut = await client.post("/auth/login", json={"email": EMAIL, "password": password[:72]})
        assert cut.status_code == 401


@pytest.mark.parametrize("hashed", ["Werkzeug pbkdf2:sha256:10", "bcrypt 2y", "argon2 ID"])
async def test_of_many_right_logins_at_once_after_an_import_all_succeed(
    hashed: str, auth: Auth, client: httpx.AsyncClient, settings: AuthSettings
) -> None:
    """Each replaces the hash, and one of them is the first."""
    settings.bcrypt_rounds = 5
    await load(auth, written(["email", "hashed_password", "is_verified"], [EMAIL, HASHES[hashed], "1"]))
    body = {"email": EMAIL, "password": PASSWORD}
    answers = await asyncio.gather(*(client.post("/auth/login", json=body) for _ in range(8)))
    assert [answer.status_code for answer in answers] == [200] * 8
    assert (await User.get()).hashed_password.startswith("$2b$05$")
    for answer in answers:
        headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        assert (await client.get("/auth/me", headers=headers)).status_code == 200


class Waiting(PasswordHasher):
    """Holds what it has verified until it is let go."""

    def __init__(self, settings: AuthSettings) -> None:
        super().__init__(settings)
        self.verified, self.go_on = asyncio.Event(), asyncio.Event()

    async def verify(self, password: str | Plaintext, hashed: str | None) -> PasswordCheck:
        """As ever, and then waits."""
        verification = await super().verify(password, hashed)
        self.verified.set()
        await self.go_on.wait()
        return verification


async def _while_verifying(auth: Auth, work: Awaitable[httpx.Response], change: Awaitable[object]) -> int:
    """The answer of a request whose password was right before this change."""
    auth.hasher = waiting = Waiting(auth.settings)
    request = asyncio.ensure_future(work)
    await waiting.verified.wait()
    await change
    waiting.go_on.set()
    return (await request).status_code


async def test_a_replaced_hash_never_brings_an_earlier_password_back(
    auth: Auth, client: httpx.AsyncClient
) -> None:
    await load(auth, written(["email", "hashed_password", "is_verified"], [EMAIL, HASHES["WordPress"], "1"]))
    body = {"email": EMAIL, "password": PASSWORD}
    other = await auth.hasher.hash("another password")
    change = User.all().update(hashed_password=other)
    assert await _while_verifying(auth, client.post("/auth/login", json=body), change) == 401
    assert (await User.get()).hashed_password == other


@pytest.mark.parametrize("path", ["/auth/login", "/auth/reauthenticate", "/account/change-password"])
async def test_a_hash_that_another_sign_in_replaces_refuses_no_right_password(
    path: str, auth: Auth, client: httpx.AsyncClient
) -> None:
    """By a worker with another cost, for one: here the hash is up to date, and no other is stored."""
    today = await auth.hasher.hash(PASSWORD)
    await User.create(email=EMAIL, hashed_password=today, is_verified=True)
    first = await client.post("/auth/login", json={"email": EMAIL, "password": PASSWORD})
    headers = {"Authorization": f"Bearer {first.json()['access_token']}"}
    body = {
        "/auth/login": {"email": EMAIL, "password": PASSWORD},
        "/auth/reauthenticate": {"password": PASSWORD},
        "/account/change-password": {"old_password": PASSWORD, "new_password": "another password"},
    }[path]
    new = await auth.hasher.hash(PASSWORD)
    note = rehash_note(new, (await User.get()).password_id)
    change = User.all().update(hashed_password=new, rehash_note=note)
    status = await _while_verifying(auth, client.post(path, json=body, headers=headers), change)
    assert status in (200, 204)
    change = User.all().update(hashed_password=await auth.hasher.hash("a third password"))
    refused = await _while_verifying(
        auth, client.post("/auth/login", json={"email": EMAIL, "password": PASSWORD}), change
    )
    assert refused == 401


@on_one_database
async def test_a_right_password_of_an_account_that_was_just_deleted_ends_the_check(auth: Auth) -> None:
    gone = User(email=EMAIL, hashed_password=bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(5)).decode())
    async with asyncio.timeout(20):
        assert await check_password(auth, gone, Plaintext.of(PASSWORD))


@pytest.mark.parametrize("length", [71, 72, 73, 200])
def test_a_bcrypt_hash_of_a_cut_password_fits_and_is_outdated(length: int, settings: AuthSettings) -> None:
    """Cut in the middle of a character too; ours is of the whole password, and fits no other."""
    password = ("\u00e9x" * length)[:length]
    cut = bcrypt.hashpw(password.encode()[:72], bcrypt.gensalt(4)).decode()
    hasher = PasswordHasher(settings)
    replacement = hasher._verify(password, cut).replacement or ""
    assert replacement.startswith("$bcrypt-sha256$")
    assert hasher._verify(password, replacement) == (True, None)
    for other in (password[:-1], f"{password}x"):
        assert not hasher._verify(other, replacement).ok
    hasher.close()


@on_one_database
async def test_argon2_is_todays_where_it_is_chosen(
    auth: Auth, client: httpx.AsyncClient, settings: AuthSettings
) -> None:
    settings.password_scheme = "argon2"
    lines = written(["email", "hashed_password", "is_verified"], [EMAIL, HASHES["Django pbkdf2_sha256"], "1"])
    await load(auth, lines)
    assert (await client.post("/auth/login", json={"email": EMAIL, "password": PASSWORD})).status_code == 200
    assert (await User.get()).hashed_password.startswith("$argon2id$")


@pytest.mark.parametrize(
    ("hashed", "reason"),
    [
        ("$2b$17$" + BITS, "takes too long"),
        ("$2b$31$" + BITS, "takes too long"),
        ("bcrypt_sha256$$2b$31$" + BITS, "takes too long"),
        ("pbkdf2_sha256$1000000000$salt$" + "A" * 43 + "=", "takes too long"),
        ("$pbkdf2-sha512$1000000000$c2FsdA$" + "A" * 86, "takes too long"),
        ("$argon2id$v=19$m=99999999,t=3,p=4$c29tZXNhbHQ$" + "A" * 43, "takes too long"),
        ("$argon2id$v=19$m=64,t=99999,p=4$c29tZXNhbHQ$" + "A" * 43, "takes too long"),
        ("$argon2id$v=19$m=1048576,t=32,p=4$c29tZXNhbHQ$" + "A" * 43, "takes too long"),
        ("$argon2id$v=19$m=262144,t=17,p=4$c29tZXNhbHQ$" + "A" * 43, "takes too long"),
        ("$argon2id$v=19$m=65536,t=65,p=4$c29tZXNhbHQ$" + "A" * 43, "takes too long"),
        ("$argon2id$v=19$m=128,t=32768,p=16$c29tZXNhbHQ$" + "A" * 43, "takes too long"),
        ("$argon2id$v=19$m=8,t=513,p=1$c29tZXNhbHQ$" + "A" * 43, "takes too long"),
        ("$argon2id$v=19$m=262145,t=1,p=4$c29tZXNhbHQ$" + "A" * 43, "takes too long"),
        ("$argon2id$v=19$m=1024,t=1,p=17$c29tZXNhbHQ$" + "A" * 43, "takes too long"),
        ("$pbkdf2-sha512$4000001$c2FsdHNhbHQ$" + "A" * 86, "takes too long"),
        ("scrypt:4294967296:8:1$salt$" + "00" * 64, "takes too long"),
        ("scrypt:262144:8:1$salt$" + "00" * 64, "takes too long"),
        ("scrypt:32768:8:17$salt$" + "00" * 64, "takes too long"),
        ("scrypt:2:1048576:1$salt$" + "00" * 64, "takes too long"),
        ("scrypt$1073741824$salt$8$1$" + "A" * 86 + "==", "takes too long"),
        ("$scrypt$ln=63,r=8,p=1$c29tZXNhbHQ$" + "A" * 43, "takes too long"),
        ("$scrypt$ln=18,r=8,p=1$c29tZXNhbHQ$" + "A" * 43, "takes too long"),
        (FIREBASE.replace("n=14", "n=18"), "takes too long"),
        ("pbkdf2:sha256:10000001$salt$" + "00" * 32, "takes too long"),
        ("pbkdf2:sha512:4000001$salt$" + "00" * 64, "takes too long"),
        ("$pbkdf2-sha512$i=4000001$c29tZXNhbHQ$" + "A" * 86, "takes too long"),
        ("$pbkdf2-sha256$i=5000001,l=64$c29tZXNhbHQ$" + "A" * 86, "takes too long"),
        ("$P$I" + "a" * 30, "takes too long"),
        ("$wp$2y$17$" + BITS, "takes too long"),
        ("$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$QQ", "damaged"),
        ("scrypt:16:8:1$salt$00", "damaged"),
        ("scrypt:17:8:1$salt$" + "00" * 64, "damaged"),
        ("scrypt:16:8:1$salt$" + "0" * 127, "damaged"),
        ("scrypt:16:0:1$salt$" + "00" * 64, "damaged"),
        ("scrypt$16$salt$8$1$" + "A" * 85 + "==", "damaged"),
        ("$scrypt$ln=4,r=8,p=1$c29tZXNhbHQ$QQ", "damaged"),
        ("$scrypt$ln=4,r=8$c29tZXNhbHQ$" + "A" * 43, "damaged"),
        ("pbkdf2:sha256$salt$" + "00" * 32, "damaged"),
        ("pbkdf2:md5:1000$salt$" + "00" * 16, "damaged"),
        ("pbkdf2:sha256:1000$salt$00", "damaged"),
        ("$pbkdf2-sha512$i=10,l=32$c29tZXNhbHQ$" + "A" * 86, "damaged"),
        (FIREBASE[:-4], "damaged"),
        (FIREBASE.replace("sk=", "sk=AAAA"), "damaged"),
        (FIREBASE.replace(",sk=", ",xx="), "damaged"),
        ("scrypt:16:8:1$" + "s" * 200 + "$" + "00" * 64, "more than 255"),
        ("$wp$2y$04$short", "damaged"),
        ("$argon2id$v=19$m=64,t=1,p=1,data=abcd$c29tZXNhbHQ$" + "A" * 43, "data"),
        ("$argon2id$v=19$m=64,t=1,p=1,keyid=abcd$c29tZXNhbHQ$" + "A" * 43, "keyid"),
        ("$wp$P$B" + "a" * 30, "known format"),
        ("$2b$99$" + BITS, "damaged"),
        ("$2b$04$short", "damaged"),
        ("$2b$04$" + "a" * 53, "damaged"),
        ("$2b$", "damaged"),
        ("$2x$04$" + BITS, "damaged"),
        ("$2$04$" + BITS, "damaged"),
        ("md5$salt$0123456789abcdef0123456789abcdef", "known format"),
        ("5f4dcc3b5aa765d61d8327deb882cf99", "known format"),
        (PASSWORD, "known format"),
    ],
)
def test_a_hash_that_is_none_or_takes_for_ever_is_refused(hashed: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        imported_hash(hashed)


def test_a_hash_at_the_bounds_is_taken(settings: AuthSettings) -> None:
    digest = hashlib.pbkdf2_hmac("sha256", PASSWORD.encode(), b"somesalt", 10, 16)
    costly = hashlib.scrypt(PASSWORD.encode(), salt=b"s", n=2**16, r=8, p=1, maxmem=2**27)
    for hashed in (
        "$pbkdf2-sha256$i=10,l=16$c29tZXNhbHQ$" + base64.b64encode(digest).decode().rstrip("="),
        f"scrypt:65536:8:1$s${costly.hex()}",
    ):
        assert imported_hash(hashed) == hashed
        assert verify_password(PASSWORD, hashed, settings)
    longest = "scrypt:16:8:1$" + "s" * 112 + "$" + "00" * 64
    assert imported_hash(longest) == longest
    assert len(longest) == User._meta.fields_map["hashed_password"].max_length == 255  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", HASHES)
def test_a_damaged_hash_fits_no_password_and_raises_nothing_else(name: str, settings: AuthSettings) -> None:
    """Cut off anywhere, or with any character changed."""
    hashed, chance = HASHES[name], random.Random(1)  # noqa: S311
    damaged = [hashed[:length] for length in range(len(hashed))]
    for _ in range(300):
        place = chance.randrange(len(hashed))
        damaged.append(hashed[:place] + chance.choice("\0$,=09aZ\x80\U0001f600") + hashed[place + 1 :])
    for each in damaged:
        try:
            accepted = imported_hash(each)
        except ValueError:
            accepted = each if len(each) < len(hashed) else ""
        if len(each) < len(hashed):
            assert not verify_password(PASSWORD, accepted, settings)


async def test_an_account_without_a_hash_has_no_password(auth: Auth, client: httpx.AsyncClient) -> None:
    """Django marks such accounts with an exclamation mark."""
    rows = [["a@example.com", "", "1"], ["b@example.com", "!" + "a" * 40, "1"], ["c@example.com", "!", "1"]]
    await load(auth, written(["email", "hashed_password", "is_verified"], *rows))
    users = await User.all()
    assert not any(is_usable(user.hashed_password) for user in users)
    assert len({user.hashed_password for user in users}) == 3
    for password in ("", "!", "!" + "a" * 40):
        answer = await client.post("/auth/login", json={"email": "b@example.com", "password": password})
        assert answer.status_code == 401


# --- rows ------------------------------------------------------------------------------------------------


@on_one_database
async def test_columns_are_read_as_what_they_are(auth: Auth) -> None:
    user_id = "9b2f4e0e-9d0c-4b4e-9a57-0f6d7a1f7c11"
    header = ["id", "email", "is_active", "is_verified", "display_name", "created_at", "_note"]
    lines = written(
        header,
        [user_id, " Ada@Bücher.example ", "f", "t", "Ada, Countess\u200d", "2020-02-29 10:11:12.5+00", "x"],
        ["", "eve@example.com", "", "", "", "2020-01-01T00:00:00Z", ""],
        ["", "kim@example.com", "no", "YES", 'a "b"', "2020-01-01T01:00:00+02:00", ""],
        ["", "lea@example.com", "0", "1", "", "", ""],
    )
    before = datetime.now(UTC)
    assert counts(await load(auth, lines)) == (4, 0, 0)
    ada = await User.get(id=UUID(user_id))
    assert (ada.email, ada.display_name) == ("ada@bücher.example", "Ada, Countess\u200d")
    assert (ada.is_active, ada.is_verified) == (False, True)
    assert ada.created_at == datetime(2020, 2, 29, 10, 11, 12, 500_000, tzinfo=UTC)
    eve, kim, lea = [await User.get(email=f"{name}@example.com") for name in ("eve", "kim", "lea")]
    assert (eve.is_active, eve.is_verified, eve.display_name) == (True, False, None)
    assert eve.created_at == datetime(2020, 1, 1, tzinfo=UTC)
    assert (kim.is_active, kim.is_verified, kim.display_name) == (False, True, 'a "b"')
    assert kim.created_at == datetime(2019, 12, 31, 23, tzinfo=UTC)
    assert lea.created_at >= before
    assert await Mail.all().count() == 0


@on_one_database
async def test_what_is_wrong_is_told_with_its_line_and_the_rest_goes_on(auth: Auth) -> None:
    lines = written(
        ["email", "display_name", "created_at", "is_active", "language"],
        ["a@example.com", "", "", "", ""],
        ["no address", "", "", "", ""],
        ["", "Ada", "", "", ""],
        ["b@example.com", "", "yesterday", "", ""],
        ["c@example.com", "", "", "perhaps", ""],
        ["d@example.com", "x" * 65, "", "", ""],
        ["e@example.com", "two\nlines", "", "", ""],
        ["f@example.com"],
        ["g@example.com", "N\0L", "", "", ""],
        ["h@example.com", "\udcff", "", "", ""],
        ["i@example.com", "", "0001-01-01T00:00:00+14:00", "", ""],
        ["j@example.com", "", "", "", "x" * 36],
        ["z@example.com", "", "", "", ""],
    )
    done = await load(auth, lines, batch=3)
    assert [(refusal.line, refusal.reason) for refusal in done.refused] == [
        (3, "email: not a valid e-mail address"),
        (4, "email: missing"),
        (5, "created_at: Invalid isoformat string: 'yesterday'"),
        (6, "is_active: not valid"),
        (7, "display_name: not valid"),
        (9, "display_name: more than one line, or control characters"),
        (10, "1 cells for 5 columns"),
        (11, "display_name: not Unicode text in UTF-8, or with NUL"),
        (12, "display_name: not Unicode text in UTF-8, or with NUL"),
        (13, "created_at: date value out of range"),
        (14, "language: not valid"),
    ]
    assert done.imported == 2
    assert done.refused[0].cells[0] == "no address"


@on_one_database
async def test_what_is_no_csv_is_told_and_costs_no_other_row(auth: Auth) -> None:
    long = "x" * 200_000
    lines = (
        f'email,display_name\na@example.com,"A" x\n{long},\nb@example.com,B\n\nc@example.com,"never closed\n'
    )
    done = await load(auth, lines)
    assert done.imported == 1
    assert [refusal.line for refusal in done.refused] == [2, 3, 6]
    assert all(refusal.reason.startswith("no CSV: ") for refusal in done.refused)


@on_one_database
@pytest.mark.parametrize(
    ("header", "says"),
    [
        ("", "name the columns"),
        ("ada@example.com,x\n", "name the columns"),
        ("email,email\n", "email twice"),
        ("email,shoe_size,colour\n", "colour, shoe_size"),
        ("email,totp_secret\n", "totp_secret"),
        ("email,refresh_tokens\n", "refresh_tokens"),
        ('email,"\n', "not CSV"),
    ],
)
async def test_a_header_that_is_wrong_imports_nothing(header: str, says: str, auth: Auth) -> None:
    with pytest.raises(ImportFileError, match=says):
        await load(auth, f"{header}{EMAIL},x\n")
    assert await User.all().count() == 0


async def test_nothing_is_doubled_when_it_is_done_again(auth: Auth) -> None:
    """An address counts once in every spelling, in the file and in the database."""
    await User.create(email=EMAIL, hashed_password="!", display_name="as it was")
    lines = written(
        ["email", "display_name"], ["ADA@Example.com", "x"], ["b@x.example", ""], ["B@X.example", ""]
    )
    assert counts(await load(auth, lines)) == (1, 2, 0)
    assert counts(await load(auth, lines)) == (0, 3, 0)
    assert (await User.get(email=EMAIL)).display_name == "as it was"
    assert await User.all().count() == 2


async def test_two_imports_at_once_make_each_account_once(auth: Auth) -> None:
    lines = written(["email"], *([f"u{n}@example.com"] for n in range(60)))
    done = await asyncio.gather(*(load(auth, lines, batch=7) for _ in range(4)))
    assert sum(each.imported for each in done) == 60
    assert sum(each.skipped for each in done) == 180
    assert [refusal for each in done for refusal in each.refused] == []
    assert await User.all().count() == 60


@on_one_database
async def test_no_more_than_a_batch_is_read_ahead(auth: Auth) -> None:
    read = 0

    def lines() -> Iterator[str]:
        nonlocal read
        yield "email\n"
        for number in range(100):
            read += 1
            yield f"u{number}@example.com\n"

    seen = 0
    async for batch in import_users(auth, lines(), batch=10):
        seen += batch.imported
        assert read <= seen
        assert await User.all().count() == seen
    assert seen == 100


async def test_columns_of_the_host_are_imported_and_checked(
    settings: AuthSettings, spare: SpareDatabase
) -> None:
    await databases.create(spare.url, spare.dialect, own_tables.__name__, "shop")
    auth = Auth(settings, user_model=Member)
    async with TortoiseContext() as context:
        await context.init(databases.config(spare.url, f"{spare.dialect} own", "shop", own_tables.__name__))
        company = await Company.create(name="Analytical")
        lines = written(
            ["email", "username", "phone", "city", "level", "plan", "company_id"],
            ["a@example.com", "Ada", "1", "London", "7", "gold", str(company.id)],
            ["b@example.com", "bob", "", "", "", "", ""],
            ["c@example.com", "ADA", "", "", "", "", ""],
            ["d@example.com", "dan", "1", "", "", "", ""],
            ["e@example.com", "eve", "", "", "", "", "99999"],
            ["f@example.com", "", "", "", "", "", ""],
            ["g@example.com", "g g", "", "", "", "", ""],
            ["h@example.com", "hal", "", "", "99999999999", "", ""],
            ["i@example.com", "ida", "", "x" * 11, "", "", ""],
            ["j@example.com", "joe", "", "", "", "", ""],
        )
        done = await load(auth, lines)
        assert [(refusal.line, refusal.reason) for refusal in sorted(done.refused, key=lambda r: r.line)] == [
            (4, "This username is taken."),
            (5, "A value belongs to another account already, or refers to nothing."),
            (6, "A value belongs to another account already, or refers to nothing."),
            (7, "username: missing"),
            (8, "username: not valid"),
            (9, "level: not valid"),
            (10, "city: not valid"),
        ]
        assert done.imported == 3
        ada, bob = await Member.get(username="ada"), await Member.get(username="bob")
        assert (ada.phone, ada.city, ada.level, ada.plan) == ("1", "London", 7, "gold")
        assert (bob.phone, bob.city, bob.level, bob.plan) == (None, "", 1, "free")
        assert ada.company_id == company.id  # type: ignore[attr-defined]
    await auth.close()


# --- the command -----------------------------------------------------------------------------------------


@pytest.fixture
def url(database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """An empty database, named by DATABASE_URL, and the settings of a deployment."""
    monkeypatch.chdir(tmp_path)
    for name, value in {"DATABASE_URL": database.url, "JWT_SECRET": SECRET}.items():
        monkeypatch.setenv(name, value)

    async def empty() -> None:
        async with connected(database.url):
            await User.all().delete()

    asyncio.run(empty())
    return database.url


def emails(url: str) -> list[str]:
    async def read() -> list[str]:
        async with connected(url):
            return [*await User.all().values_list("email", flat=True)]  # type: ignore[list-item]

    return asyncio.run(read())


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=120, check=False)


def test_what_is_refused_is_corrected_and_imported(url: str, tmp_path: Path) -> None:
    """Also a file of a spreadsheet: with a byte order mark, line ends of Windows, and one cell in Latin-1."""
    rows = b"email,display_name\r\na@example.com,A\r\nnowhere,B\r\nc@example.com,\xe4\r\n"
    (tmp_path / "users.csv").write_bytes(b"\xef\xbb\xbf" + rows)
    first = run("users.csv", "--rejects", "rejects.csv")
    assert first.stdout == "1 imported, 0 skipped as their address has an account, 2 refused\n"
    assert first.stderr.splitlines() == [
        "line 3: email: not a valid e-mail address",
        "line 4: display_name: not Unicode text in UTF-8, or with NUL",
    ]
    assert first.returncode == 1
    rejects = tmp_path / "rejects.csv"
    assert rejects.stat().st_mode & 0o777 == 0o600
    corrected = rejects.read_bytes().replace(b"nowhere", b"b@example.com").replace(b"\xe4", b"\xc3\xa4")
    (tmp_path / "corrected.csv").write_bytes(corrected)
    second = run("corrected.csv")
    assert (second.returncode, second.stderr) == (0, "")
    assert second.stdout == "2 imported, 0 skipped as their address has an account, 0 refused\n"
    assert sorted(emails(url)) == ["a@example.com", "b@example.com", "c@example.com"]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_nobody_else_reads_what_was_refused(url: str, tmp_path: Path) -> None:
    """Hashes may be in it: neither the mode of an earlier file counts, nor where a link leads."""
    (tmp_path / "users.csv").write_text("email\nnowhere\n")
    rejects, elsewhere = tmp_path / "rejects.csv", tmp_path / "elsewhere"
    rejects.write_text("earlier")
    rejects.chmod(0o666)
    with rejects.open() as already_open:
        run("users.csv", "--rejects", "rejects.csv")
        assert already_open.read() == "earlier"
    assert rejects.stat().st_mode & 0o777 == 0o600
    assert "nowhere" in rejects.read_text()
    rejects.unlink()
    for there in (False, True):
        rejects.symlink_to(elsewhere)
        if there:
            elsewhere.write_text("earlier")
        refused = run("users.csv", "--rejects", "rejects.csv")
        assert (refused.returncode, refused.stdout) == (1, "")
        assert elsewhere.exists() is there
        rejects.unlink()
    assert elsewhere.read_text() == "earlier"
    assert "nowhere" in run("users.csv", "--rejects", "/dev/stdout").stdout
    assert {path.name for path in tmp_path.iterdir()} >= {"users.csv", "elsewhere"}
    assert not list(tmp_path.glob(".rejects*"))


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_file_that_is_none_is_said_in_one_sentence(url: str, tmp_path: Path) -> None:
    (tmp_path / "wrong.csv").write_text("name\nAda\n")
    for arguments, says in (
        (["nowhere.csv"], "nowhere.csv: No such file or directory.\n"),
        ([str(tmp_path)], f"{tmp_path}: Is a directory.\n"),
        (["wrong.csv"], "The first line has to name the columns, `email` among them.\n"),
        (["wrong.csv", "--rejects", "none/rejects.csv"], "none/rejects.csv: No such file or directory.\n"),
    ):
        refused = run(*arguments)
        assert (refused.returncode, refused.stdout, refused.stderr) == (1, "", says)


@on_one_database
def test_an_import_that_is_killed_goes_on_where_it_was(url: str, tmp_path: Path) -> None:
    """Nothing is doubled, nothing lost."""
    everybody = [f"u{number}@example.com" for number in range(20_000)]
    (tmp_path / "users.csv").write_text("\n".join(["email", *everybody]) + "\n")
    process = subprocess.Popen([*COMMAND, "users.csv"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not emails(url):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = len(emails(url))
    assert 0 < before < 20_000
    again = run("users.csv")
    assert again.stdout == (
        f"{20_000 - before} imported, {before} skipped as their address has an account, 0 refused\n"
    )
    assert sorted(emails(url)) == sorted(everybody)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_terminal_shows_how_far_it_has_come(url: str, tmp_path: Path) -> None:
    """And a refusal is a line of its own above the bar."""
    rows = [f"u{number}@example.com" for number in range(3000)]
    (tmp_path / "users.csv").write_text("\n".join(["email", *rows, "nowhere"]) + "\n")
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 120))
    process = subprocess.Popen([*COMMAND, "users.csv"], stdout=subprocess.PIPE, stderr=slave)
    os.close(slave)
    screen = b""
    while True:
        try:
            screen += os.read(master, 4096)
        except OSError:
            break
    os.close(master)
    assert process.communicate()[0].startswith(b"3000 imported")
    assert b"imported, 0 skipped" in screen
    assert b"%|" in screen
    assert b"line 3002: email: not a valid e-mail address\r\n" in screen
