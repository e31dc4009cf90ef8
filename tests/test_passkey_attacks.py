"""What must not work with passkeys: WebAuthn Level 3 sections 7.1 and 7.2, ASVS 5.0 V6.7, NIST SP 800-63B-4.

What an independent library (`webauthn`) looks at too, it refuses too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from fastapi import FastAPI
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from fastapi_pluggable_auth import Auth, AuthSettings, SecurityEvent, include_auth
from fastapi_pluggable_auth.features import Administration, Passkeys
from fastapi_pluggable_auth.features.administration.users import disable_user
from fastapi_pluggable_auth.features.passkeys.credentials import decoded, encoded
from fastapi_pluggable_auth.features.passkeys.names import PasskeySettings
from fastapi_pluggable_auth.features.passkeys.testing import BACKED_UP, ELIGIBLE, PRESENT, VERIFIED
from fastapi_pluggable_auth.models import Passkey, Pending, Session, User

from .authenticator import (
    ATTESTED,
    ORDINARY,
    ORIGIN,
    Forger,
    other_library_registers,
    other_library_signs_in,
    p256,
)
from .conftest import EMAIL, PASSWORD, Account, Clock, Mailbox, on_each_database
from .world import World

DIALECTS = ("sqlite",)
OTHER_SECRET = "Zy7wQm2LxN8vRb5TkJ4hGd6PsC9fEa3UoV1iKqBnWzMtYrXg"
LOGIN = "/auth/login"
OWN = "/account/passkeys"


@pytest.fixture
def passkey_settings() -> PasskeySettings:
    return PasskeySettings(max_passkeys=3)


@pytest.fixture
def app(settings: AuthSettings, clock: Clock, passkey_settings: PasskeySettings) -> FastAPI:
    app = FastAPI()
    features = [Passkeys(passkey_settings), Administration()]
    include_auth(app, settings=settings, clock=clock, features=features)
    return app


class Victim:
    """An account with a passkey."""

    def __init__(self, account: Account, key: Forger) -> None:
        self.account, self.client, self.key = account, account.client, key

    async def ask(self, path: str, body: Any = None, *, signed_in: bool = True) -> httpx.Response:
        headers = self.account.headers if signed_in else {}
        return await self.client.post(path, json=body, headers=headers)

    async def options(self, path: str, body: Any = None) -> dict[str, Any]:
        answer = await self.ask(path, body)
        assert answer.status_code == (401 if path == LOGIN else 200), answer.text
        found: dict[str, Any] = answer.json()["options"]["passkey"] if path == LOGIN else answer.json()
        return found

    async def add(self, key: Forger, **asked: Any) -> httpx.Response:
        made = key.create(await self.options(f"{OWN}/options", asked))
        return await self.ask(OWN, {"credential": made})

    async def sign_in(self, key: Forger | None = None) -> httpx.Response:
        signed = (key or self.key).get(await self.options("/auth/passkey/options"))
        return await self.ask("/auth/passkey/login", {"credential": signed}, signed_in=False)


@pytest.fixture
async def victim(account: Account) -> Victim:
    found = Victim(account, Forger())
    assert (await found.add(found.key)).status_code == 201
    return found


def refused(answer: httpx.Response, code: str) -> None:
    assert answer.json().get("code") == code, answer.text
    assert answer.status_code in (400, 401, 403, 409), answer.text


# What is signed (section 7.2)


def forge(**changes: Any) -> Callable[[Forger], None]:
    def change(key: Forger) -> None:
        for name, value in changes.items():
            setattr(key, name, value)

    return change


def of_another_key(key: Forger) -> None:
    key.key = p256()


ELSEWHERE = {
    "another site": "https://evil.example",
    "a subdomain": "http://evil.localhost:8000",
    "a look-alike": "http://localh\u043est:8000",
    "another port": "http://localhost:8001",
    "another scheme": "https://localhost:8000",
    "a prefix": "http://localhost:8000.evil.example",
    "an opaque origin": "null",
}

SIGNED: dict[str, tuple[Callable[[Forger], None], str, bool]] = {
    **{
        f"an assertion for {name}": (forge(client={"origin": origin}), "passkey_refused", True)
        for name, origin in ELSEWHERE.items()
    },
    "an origin that is a list": (forge(client={"origin": [ORIGIN]}), "passkey_refused", True),
    "no origin": (forge(client={"origin": None}), "passkey_refused", True),
    "another RP ID": (forge(rp_id="evil.example"), "passkey_refused", True),
    "the RP ID of a subdomain": (forge(rp_id="evil.localhost"), "passkey_refused", True),
    "a registration's type": (forge(client={"type": "webauthn.create"}), "passkey_refused", True),
    "a type that is a number": (forge(client={"type": 7}), "passkey_refused", True),
    "a challenge of their own": (
        forge(client={"challenge": encoded(b"c" * 72)}),
        "passkey_expired",
        True,
    ),
    "a short challenge": (forge(client={"challenge": encoded(b"c")}), "passkey_expired", True),
    "no challenge": (forge(client={"challenge": ""}), "passkey_expired", True),
    "a challenge that is null": (forge(client={"challenge": None}), "passkey_refused", True),
    "nobody present": (forge(flags=ORDINARY & ~PRESENT), "passkey_refused", True),
    "nobody verified": (forge(flags=ORDINARY & ~VERIFIED), "passkey_refused", True),
    "backed up, not eligible": (forge(flags=PRESENT | VERIFIED | BACKED_UP), "passkey_refused", True),
    "no longer eligible": (forge(flags=PRESENT | VERIFIED), "passkey_refused", False),
    "another key": (of_another_key, "passkey_refused", True),
    "an empty signature": (forge(sent={"signature": ""}), "passkey_refused", True),
    "another's signature": (forge(sent={"signature": encoded(b"s" * 70)}), "passkey_refused", True),
    "bytes behind the data": (forge(extra=b"more"), "passkey_refused", True),
    "a credential announced that is not there": (
        forge(flags=ORDINARY | ATTESTED),
        "passkey_refused",
        True,
    ),
    "data that is too short": (
        forge(sent={"authenticatorData": encoded(b"d" * 36)}),
        "passkey_refused",
        True,
    ),
    "client data that is not JSON": (
        forge(sent={"clientDataJSON": encoded(b"no JSON")}),
        "passkey_refused",
        True,
    ),
    "a frame of another site": (forge(client={"crossOrigin": True}), "passkey_refused", False),
    "a frame, oddly said": (forge(client={"crossOrigin": "false"}), "passkey_refused", False),
    "the handle of another": (forge(handle=b"h" * 16), "passkey_refused", False),
    "an empty handle": (forge(handle=b""), "passkey_refused", False),
    "no handle": (forge(handle=None), "passkey_refused", False),
    "a credential that nobody has": (forge(id=b"unknown"), "passkey_unknown", False),
}


@pytest.mark.parametrize("attack", SIGNED)
async def test_nobody_signs_in_with(attack: str, victim: Victim) -> None:
    """A-92. WebAuthn Level 3 section 7.2 steps 5 to 23; ASVS V6.7.1; NIST SP 800-63B-4 section 3.2.5."""
    change, code, seen_by_others = SIGNED[attack]
    public, sessions = victim.key.public_key, await Session.all().count()
    options = await victim.options("/auth/passkey/options")
    good = victim.key.get(options)
    assert other_library_signs_in(options, good, public, verified=True)
    change(victim.key)
    bad = victim.key.get(options)
    assert other_library_signs_in(options, bad, public, verified=True) is not seen_by_others
    refused(await victim.ask("/auth/passkey/login", {"credential": bad}, signed_in=False), code)
    assert await Session.all().count() == sessions
    # What was refused has spent nothing.
    answer = await victim.ask("/auth/passkey/login", {"credential": good}, signed_in=False)
    assert answer.status_code == 200, answer.text


@on_each_database
async def test_a_signature_signs_in_once_also_of_many_at_once(victim: Victim) -> None:
    """A-92. Section 13.4.3: replay; ASVS V6.7.2. One session, whatever the database."""
    before = await Session.all().count()
    signed = {"credential": victim.key.get(await victim.options("/auth/passkey/options"))}
    answers = await asyncio.gather(
        *(victim.ask("/auth/passkey/login", signed, signed_in=False) for _ in range(6))
    )
    assert sorted(answer.status_code for answer in answers) == [200, *[400] * 5]
    assert {each.json()["code"] for each in answers if each.status_code != 200} == {"passkey_expired"}
    assert await Session.all().count() == before + 1
    late = await victim.ask("/auth/passkey/login", signed, signed_in=False)
    assert late.json()["code"] == "passkey_expired"
    assert await Pending.filter(kind="passkey_challenge").count() == 2  # that of the addition, and one


async def test_a_challenge_is_good_for_five_minutes(victim: Victim, clock: Clock) -> None:
    """A-92. ASVS V6.7.2, V6.6.2."""
    signed = {"credential": victim.key.get(await victim.options("/auth/passkey/options"))}
    clock.advance(minutes=5)
    refused(await victim.ask("/auth/passkey/login", signed, signed_in=False), "passkey_expired")
    assert (await victim.sign_in()).status_code == 200


async def test_a_challenge_of_the_former_secret_is_good_while_that_is_known(
    victim: Victim, settings: AuthSettings
) -> None:
    first, second = [await victim.options("/auth/passkey/options") for _ in range(2)]
    former, settings.jwt_secret = settings.jwt_secret, OTHER_SECRET
    refused(
        await victim.ask("/auth/passkey/login", {"credential": victim.key.get(first)}, signed_in=False),
        "passkey_expired",
    )
    settings.jwt_previous_keys = [former]
    body = {"credential": victim.key.get(second)}
    assert (await victim.ask("/auth/passkey/login", body, signed_in=False)).status_code == 200


@on_each_database
async def test_a_challenge_of_one_worker_is_good_once_at_another(
    victim: Victim, settings: AuthSettings, clock: Clock
) -> None:
    other = FastAPI()
    include_auth(other, settings=settings, clock=clock, features=[Passkeys(), Administration()])
    signed = {"credential": victim.key.get(await victim.options("/auth/passkey/options"))}
    transport = httpx.ASGITransport(other)
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        assert (await client.post("/auth/passkey/login", json=signed)).status_code == 200
        answer = await victim.ask("/auth/passkey/login", signed, signed_in=False)
        assert answer.json()["code"] == "passkey_expired"
    await other.state.pluggable_auth.close()


# Each challenge for its purpose


PASSWORD_BODY = {"email": EMAIL, "password": PASSWORD}

BEGINNINGS: dict[str, tuple[str, Any]] = {
    "sign-in": ("/auth/passkey/options", None),
    "second factor": (LOGIN, PASSWORD_BODY),
    "reauthentication": ("/auth/passkey/reauthenticate/options", None),
    "addition": (f"{OWN}/options", {}),
    "second factor's addition": (f"{OWN}/options", {"second_factor": True}),
    "upgrade": (f"{OWN}/options", {"upgrade": True}),
    "sign-up": ("/auth/passkey/sign-up/options", {"email": "new@example.com"}),
}

ENDINGS: dict[str, tuple[str, Any]] = {
    "sign-in": ("/auth/passkey/login", {}),
    "second factor": ("/auth/login", PASSWORD_BODY),
    "reauthentication": ("/auth/passkey/reauthenticate", {}),
    "addition": (OWN, {}),
    "sign-up": ("/auth/signup", {"email": "new@example.com"}),
}

GOOD = {
    **{name: name for name in ("sign-in", "second factor", "reauthentication", "addition", "sign-up")},
    "second factor's addition": "addition",
    "upgrade": "addition",
}


@pytest.mark.parametrize("begun", BEGINNINGS)
@pytest.mark.parametrize("ended", ENDINGS)
async def test_a_challenge_is_good_for_its_purpose_alone(begun: str, ended: str, victim: Victim) -> None:
    """A-92. Section 13.4.3; ASVS V6.7.2: that of a sign-in confirms nothing, adds nothing, and so on."""
    if ended == "second factor" or begun == "second factor":
        second = Forger()
        assert (await victim.add(second, second_factor=True)).status_code == 201
    (path, asked), (to, body) = BEGINNINGS[begun], ENDINGS[ended]
    challenge = (await victim.options(path, asked))["challenge"]
    user = await User.get(email=EMAIL)
    options = {"challenge": challenge, "user": {"id": encoded(user.id.bytes)}}
    registers = ended in ("addition", "sign-up")
    credential = Forger().create(options) if registers else victim.key.get(options)
    field = "passkey" if ended == "second factor" else "credential"
    answer = await victim.ask(to, {**body, field: credential}, signed_in=ended not in ("sign-in", "sign-up"))
    if GOOD[begun] == ended:
        assert answer.status_code in (200, 201), answer.text
    else:
        refused(answer, "passkey_expired")


@pytest.fixture
async def browser(app: FastAPI, settings: AuthSettings) -> AsyncIterator[Callable[[], httpx.AsyncClient]]:
    opened: list[httpx.AsyncClient] = []

    def make() -> httpx.AsyncClient:
        headers = {"Origin": ORIGIN, "Sec-Fetch-Site": "same-origin"}
        transport = httpx.ASGITransport(app, client=("192.0.2.7", 4321))
        opened.append(httpx.AsyncClient(transport=transport, base_url=ORIGIN, headers=headers))
        return opened[-1]

    yield make
    for each in opened:
        await each.aclose()


class TestInBrowsers:
    """With cookies."""

    @pytest.fixture
    def settings(self, settings: AuthSettings) -> AuthSettings:
        settings.cookies = True
        return settings

    async def test_a_challenge_is_good_in_the_browser_that_asked_for_it(
        self, victim: Victim, browser: Callable[[], httpx.AsyncClient]
    ) -> None:
        """Section 13.4.3, and sign-in as somebody else (RFC 6749 section 10.12): a page can't hand the
        signature of its own account to another browser."""
        mine, other = browser(), browser()
        options = (await mine.post("/auth/passkey/options")).json()
        body = {"credential": victim.key.get(options)}
        for stranger in (other, browser()):
            if stranger is other:
                await other.post("/auth/passkey/options")
            refused(await stranger.post("/auth/passkey/login", json=body), "passkey_expired")
        assert (await mine.post("/auth/passkey/login", json=body)).status_code == 200
        assert (await mine.get("/auth/me")).status_code == 200

    async def test_a_challenge_of_a_program_is_not_good_in_a_browser(
        self, victim: Victim, browser: Callable[[], httpx.AsyncClient]
    ) -> None:
        body = {"credential": victim.key.get(await victim.options("/auth/passkey/options"))}
        refused(await browser().post("/auth/passkey/login", json=body), "passkey_expired")

    async def test_a_page_of_another_site_neither_gets_nor_uses_a_challenge(
        self, victim: Victim, browser: Callable[[], httpx.AsyncClient]
    ) -> None:
        """ASVS V3.5.1."""
        foreign = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
        mine = browser()
        body = {"credential": victim.key.get((await mine.post("/auth/passkey/options")).json())}
        answer = await mine.post("/auth/passkey/login", json=body, headers=foreign)
        assert (answer.status_code, answer.json()["code"]) == (403, "csrf_refused")

    async def test_a_signup_by_passkey_ends_in_the_browser_that_began_it(
        self, browser: Callable[[], httpx.AsyncClient], client: httpx.AsyncClient
    ) -> None:
        mine, key = browser(), Forger()
        asked = {"email": "new@example.com"}
        body = asked | {
            "credential": key.create((await mine.post("/auth/passkey/sign-up/options", json=asked)).json())
        }
        refused(await browser().post("/auth/signup", json=body), "passkey_expired")
        assert (await mine.post("/auth/signup", json=body)).status_code == 201


# Whose it is


@pytest.fixture
async def eve(register: Callable[..., Any]) -> Account:
    found: Account = await register("eve@example.com")
    return found


async def test_a_passkey_shows_its_own_account_and_no_other(victim: Victim, eve: Account) -> None:
    """Section 7.2 steps 5 and 6: Eve's passkey neither confirms in Ada's session nor answers for Ada's second
    factor, nor is it one of Ada's with Ada's handle."""
    evil = Victim(eve, Forger())
    assert (await evil.add(evil.key)).status_code == 201
    begun = await victim.options("/auth/passkey/reauthenticate/options")
    body = {"credential": evil.key.get(begun)}
    refused(await victim.ask("/auth/passkey/reauthenticate", body), "passkey_unknown")
    second = Forger()
    assert (await victim.add(second, second_factor=True)).status_code == 201
    asked = await victim.options(LOGIN, PASSWORD_BODY)
    for key in (evil.key, Forger(id=victim.key.id, key=evil.key.key, handle=victim.key.handle)):
        answer = await victim.ask("/auth/login", {**PASSWORD_BODY, "passkey": key.get(asked)})
        assert answer.json()["code"] in ("passkey_unknown", "passkey_refused")
    assert (
        await victim.ask("/auth/login", {**PASSWORD_BODY, "passkey": second.get(asked)})
    ).status_code == 200
    evil.key.handle = victim.key.handle
    refused(await evil.sign_in(), "passkey_refused")


async def test_a_challenge_of_one_session_is_not_good_in_another(victim: Victim, eve: Account) -> None:
    begun = await victim.options(f"{OWN}/options", {})
    evil = Victim(eve, Forger())
    refused(await evil.ask(OWN, {"credential": evil.key.create(begun)}), "passkey_expired")
    shown = await victim.options("/auth/passkey/reauthenticate/options")
    await victim.account.login()
    body = {"credential": victim.key.get(shown)}
    refused(await victim.ask("/auth/passkey/reauthenticate", body), "passkey_expired")


@on_each_database
async def test_a_credential_is_of_one_account(victim: Victim, eve: Account) -> None:
    """A-92. Section 7.1 step 26."""
    evil = Victim(eve, Forger(id=victim.key.id))
    refused(await evil.add(evil.key), "passkey_exists")
    refused(await victim.add(Forger(id=victim.key.id)), "passkey_exists")
    asked = {"email": "new@example.com"}
    options = await victim.options("/auth/passkey/sign-up/options", asked)
    body = {**asked, "credential": Forger(id=victim.key.id).create(options)}
    refused(await victim.ask("/auth/signup", body, signed_in=False), "passkey_exists")
    assert (await Passkey.get()).public_key  # there is one
    assert (await victim.sign_in()).status_code == 200


@on_each_database
async def test_ids_have_up_to_1023_bytes_and_differ_in_each_byte(victim: Victim) -> None:
    """Section 7.1 step 25, section 4 (credential id)."""
    long = b"i" * 1022
    for last in (b"a", b"b"):
        assert (await victim.add(key := Forger(id=long + last))).status_code == 201
        assert (await victim.sign_in(key)).status_code == 200
    for id in (b"i" * 1024, b"i" * 5000):
        made = Forger(id=id).create(await victim.options(f"{OWN}/options", {}))
        answer = await victim.ask(OWN, {"credential": made})
        assert (answer.status_code, answer.json()["code"]) == (422, "validation_error")
        short = await victim.ask(OWN, {"credential": made | {"id": encoded(id[:1000])}})
        assert short.json()["code"] == "passkey_refused"
    assert await Passkey.all().count() == 3


@on_each_database
async def test_a_counter_that_goes_back_is_refused_and_its_owner_learns_of_it(
    victim: Victim, auth: Auth, mailbox: Mailbox
) -> None:
    """A-92. Section 6.1.1, section 7.2 step 22; ASVS V6.7.1."""
    heard: list[SecurityEvent] = []
    auth.on(SecurityEvent)(heard.append)
    victim.key.counter = 5
    assert (await victim.sign_in()).status_code == 200
    mailbox.clear()
    for stale in (5, 4, 0):
        heard.clear()
        victim.key.counter = stale
        refused(await victim.sign_in(), "passkey_refused")
        told = [(each.kind, each.outcome) for each in heard]
        assert told == [("passkey_copied", "failure"), ("login", "failure")]
    assert len(mailbox.messages) >= 1
    assert {message["To"] for message in mailbox.messages} == {EMAIL}
    assert (await Passkey.get()).counter == 5
    victim.key.counter = 6
    assert (await victim.sign_in()).status_code == 200


@on_each_database
async def test_of_two_signatures_with_one_counter_one_signs_in(victim: Victim) -> None:
    """A copy, at once (section 6.1.1)."""
    victim.key.counter = 9
    signed = [victim.key.get(await victim.options("/auth/passkey/options")) for _ in range(4)]
    answers = await asyncio.gather(
        *(victim.ask("/auth/passkey/login", {"credential": each}, signed_in=False) for each in signed)
    )
    assert sorted(answer.status_code for answer in answers)[:2] != [200, 200]
    assert [answer.status_code for answer in answers].count(200) == 1


# Which account may sign in


async def test_a_disabled_account_does_not_sign_in(victim: Victim, auth: Auth) -> None:
    await disable_user(auth, (await User.get()).id)
    answer = await victim.options("/auth/passkey/options")
    body = {"credential": victim.key.get(answer)}
    refused(await victim.ask("/auth/passkey/login", body, signed_in=False), "passkey_held")
    await User.all().update(is_active=False)
    await Passkey.all().update(held_since=None)
    refused(await victim.sign_in(), "invalid_credentials")


async def test_an_account_that_is_not_verified_does_not_sign_in(victim: Victim) -> None:
    await User.all().update(is_verified=False)
    refused(await victim.sign_in(), "email_not_verified")


async def test_a_password_that_must_be_reset_is_not_passed_by(victim: Victim) -> None:
    await User.all().update(password_reset_required=True)
    refused(await victim.sign_in(), "password_reset_required")


@pytest.mark.parametrize("flags", [ORDINARY, PRESENT])
async def test_a_key_that_is_a_second_factor_only_never_signs_in_alone(victim: Victim, flags: int) -> None:
    """NIST SP 800-63B-4 section 3.1.7: it was not asked for a PIN when it was made; ASVS V6.3.3."""
    key = Forger(flags=flags)
    assert (await victim.add(key, second_factor=True)).status_code == 201
    refused(await victim.sign_in(key), "passkey_refused")
    key.flags |= VERIFIED
    refused(await victim.sign_in(key), "passkey_refused")
    begun = await victim.options("/auth/passkey/reauthenticate/options")
    assert encoded(key.id) not in [each["id"] for each in begun["allowCredentials"]]
    body = {"credential": key.get(begun)}
    refused(await victim.ask("/auth/passkey/reauthenticate", body), "passkey_refused")


# What is registered (section 7.1)


def tiny_rsa() -> Forger:
    return Forger(cose={1: 3, 3: -257, -1: b"\x80" + b"n" * 2048, -2: b"\x01\x00\x01"})


MADE: dict[str, tuple[Callable[[], Forger], bool]] = {
    **{
        f"a credential for {name}": (lambda origin=origin: Forger(client={"origin": origin}), True)  # type: ignore[misc]
        for name, origin in ELSEWHERE.items()
    },
    "another RP ID": (lambda: Forger(rp_id="evil.example"), True),
    "an assertion's type": (lambda: Forger(client={"type": "webauthn.get"}), True),
    "nobody present": (lambda: Forger(flags=ORDINARY & ~PRESENT), True),
    "nobody verified": (lambda: Forger(flags=ORDINARY & ~VERIFIED), True),
    "backed up, not eligible": (lambda: Forger(flags=PRESENT | VERIFIED | BACKED_UP), True),
    "a frame of another site": (lambda: Forger(client={"crossOrigin": True}), False),
    "no credential in it": (lambda: Forger(attested=False), True),
    "an id that is not its own": (lambda: Forger(told={"id": "b3RoZXI"}), False),
    "an empty id": (lambda: Forger(id=b"", told={"id": "b3RoZXI"}), False),
    "an algorithm that was not offered": (lambda: Forger(key=ec.generate_private_key(ec.SECP384R1())), True),
    "no key": (lambda: Forger(cose={}), True),
    "a key without a point": (lambda: Forger(cose={1: 2, 3: -7, -1: 1}), True),
    "a point that is not on the curve": (
        lambda: Forger(cose={1: 2, 3: -7, -1: 1, -2: b"\x01" * 32, -3: b"\x02" * 32}),
        False,
    ),
    "a kind of key and an algorithm that do not fit": (
        lambda: Forger(cose={1: 1, 3: -7, -1: 6, -2: b"x" * 32}),
        False,
    ),
    "an RSA key of 16,392 bits": (tiny_rsa, False),
    "bytes behind the data": (lambda: Forger(extra=b"more"), True),
    "data that is not CBOR": (lambda: Forger(sent={"attestationObject": encoded(b"\xff\xff")}), True),
    "data that is a number": (lambda: Forger(sent={"attestationObject": encoded(b"\x01")}), True),
    "no data": (lambda: Forger(sent={"attestationObject": ""}), True),
    "lists in lists": (lambda: Forger(sent={"attestationObject": encoded(b"\x81" * 9000 + b"\x01")}), True),
}


@pytest.mark.parametrize("attack", MADE)
async def test_nobody_adds_a_passkey_with(attack: str, victim: Victim) -> None:
    """WebAuthn Level 3 section 7.1 steps 7 to 25; ASVS V6.7.1."""
    make, seen_by_others = MADE[attack]
    options = await victim.options(f"{OWN}/options", {})
    good, bad = Forger().create(options), make().create(options)
    assert other_library_registers(options, good, verified=True)
    if seen_by_others:
        assert not other_library_registers(options, bad, verified=True)
    refused(await victim.ask(OWN, {"credential": bad}), "passkey_refused")
    assert await Passkey.all().count() == 1
    assert (await victim.ask(OWN, {"credential": good})).status_code == 201
    refused(await victim.ask(OWN, {"credential": Forger().create(options)}), "passkey_expired")


KEYS: dict[str, Callable[[], Any]] = {
    "ES256": p256,
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
}


@pytest.mark.parametrize("algorithm", KEYS)
async def test_keys_of_each_algorithm_that_is_offered_work(algorithm: str, victim: Victim) -> None:
    """Section 5.8.5; each ceremony is verified by `webauthn` too."""
    key = Forger(key=KEYS[algorithm]())
    options = await victim.options(f"{OWN}/options", {})
    made = key.create(options)
    assert other_library_registers(options, made, verified=True)
    assert (await victim.ask(OWN, {"credential": made})).status_code == 201
    asked = await victim.options("/auth/passkey/options")
    signed = key.get(asked)
    assert other_library_signs_in(asked, signed, key.public_key, verified=True)
    answer = await victim.ask("/auth/passkey/login", {"credential": signed}, signed_in=False)
    assert answer.status_code == 200, answer.text
    key.key = KEYS[algorithm]()
    refused(await victim.sign_in(key), "passkey_refused")


@on_each_database
async def test_no_more_than_allowed_are_added_also_of_many_at_once(victim: Victim) -> None:
    """ASVS V2.3.2: MAX_PASSKEYS, which is 3 here."""
    made = [Forger().create(await victim.options(f"{OWN}/options", {})) for _ in range(5)]
    answers = await asyncio.gather(*(victim.ask(OWN, {"credential": each}) for each in made))
    assert sorted(answer.status_code for answer in answers) == [201, 201, 409, 409, 409]
    assert {each.json()["code"] for each in answers if each.status_code == 409} == {"too_many_passkeys"}
    assert await Passkey.all().count() == 3


@on_each_database
async def test_one_new_credential_is_added_once_also_of_many_at_once(victim: Victim) -> None:
    made = Forger().create(await victim.options(f"{OWN}/options", {}))
    answers = await asyncio.gather(*(victim.ask(OWN, {"credential": made}) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers)[0] == 201
    assert {each.json()["code"] for each in answers if each.status_code != 201} <= {
        "passkey_exists",
        "passkey_expired",
        "too_many_passkeys",
    }
    assert await Passkey.all().count() == 2


# Who may add and remove


@pytest.mark.parametrize("way", ["late", "nobody"])
async def test_adding_and_removing_need_a_recent_login(
    way: str, victim: Victim, clock: Clock, settings: AuthSettings
) -> None:
    """ASVS V7.5.1, V6.3.7; NIST SP 800-63B-4 section 4.1.2."""
    made = Forger().create(await victim.options(f"{OWN}/options", {}))
    passkey = await Passkey.get()
    code = "reauthentication_required" if way == "late" else "not_authenticated"
    headers = victim.account.headers if way == "late" else {}
    settings.reauth_ttl = timedelta(minutes=2)
    clock.advance(minutes=3)
    for method, path, body in (
        ("POST", f"{OWN}/options", {}),
        ("POST", OWN, {"credential": made}),
        ("PATCH", f"{OWN}/{passkey.id}", {"keep": True}),
        ("DELETE", f"{OWN}/{passkey.id}", None),
    ):
        answer = await victim.client.request(method, path, json=body, headers=headers)
        assert answer.json()["code"] == code, (method, path, answer.text)
    assert await Passkey.all().count() == 1


async def test_an_administrator_who_acts_as_the_user_neither_adds_shows_nor_removes(
    victim: Victim, eve: Account
) -> None:
    """ASVS V8.3.3."""
    await User.filter(email=eve.email).update(is_superuser=True)
    user, passkey = await User.get(email=EMAIL), await Passkey.get()
    path = f"/admin/users/{user.id}/impersonate"
    tokens = (await victim.client.post(path, headers=eve.headers)).json()
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    shown = victim.key.get(await victim.options("/auth/passkey/reauthenticate/options"))
    for method, path, body in (
        ("POST", f"{OWN}/options", {}),
        ("POST", OWN, {"credential": Forger().create({"challenge": "", "user": {"id": ""}})}),
        ("PATCH", f"{OWN}/{passkey.id}", {"name": "Mine"}),
        ("DELETE", f"{OWN}/{passkey.id}", None),
        ("POST", "/auth/passkey/reauthenticate", {"credential": shown}),
    ):
        answer = await victim.client.request(method, path, json=body, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "impersonation_forbidden"), path


# Whatever is sent


def test_whatever_bytes_are_sent_the_answer_is_a_refusal_and_comes_soon() -> None:
    """Section 13.4.2 is for whom asks for attestation; CBOR of strangers is parsed by all (RFC 8949 section
    10)."""
    world = World(features=[Passkeys()])
    try:
        key, user = Forger(), {"email": EMAIL, "hashed_password": world.hashed, "is_verified": True}

        def post(path: str, body: Any = None, token: str = "") -> httpx.Response:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            return world.run(lambda: world.client.post(path, json=body, headers=headers))

        world.run(lambda: User.create(**user))
        token = post("/auth/login", PASSWORD_BODY).json()["access_token"]
        options = post(f"{OWN}/options", {}, token).json()
        made = key.create(options)
        signed = key.get(post("/auth/passkey/options").json())
        attestation = decoded(made["response"]["attestationObject"])
        data = decoded(signed["response"]["authenticatorData"])

        def mutated(whole: bytes) -> st.SearchStrategy[bytes]:
            cut = st.tuples(st.integers(0, len(whole)), st.integers(0, 12), st.binary(max_size=24))
            return cut.map(lambda at: whole[: at[0]] + at[2] + whole[at[0] + at[1] :])

        @given(
            attestation=mutated(attestation) | st.binary(max_size=400),
            data=mutated(data) | st.binary(max_size=200),
            signature=st.binary(max_size=100),
        )
        @hypothesis_settings(
            max_examples=150,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        def refuses(attestation: bytes, data: bytes, signature: bytes) -> None:
            began = time.process_time()
            new = {**made, "response": {**made["response"], "attestationObject": encoded(attestation)}}
            changed = {"authenticatorData": encoded(data), "signature": encoded(signature)}
            old = {**signed, "response": {**signed["response"], **changed}}
            added = post(OWN, {"credential": new}, token)
            answers = [added, post("/auth/passkey/login", {"credential": old})]
            assert time.process_time() - began < 1
            for answer in answers:
                assert answer.status_code in (201, 400, 401, 409), answer.text
            # A change in what is not looked at, such as the AAGUID, makes another credential.
            assert answers[1].status_code != 200

        refuses()
    finally:
        world.close()


# Nothing tells whether there is an account


class TestWithoutEnumeration:
    """PREVENT_ENUMERATION: ASVS V6.3.8, WebAuthn Level 3 section 14.6.2."""

    @pytest.fixture
    def settings(self, settings: AuthSettings) -> AuthSettings:
        settings.prevent_enumeration = True
        return settings

    @pytest.fixture
    async def eve(self, register: Callable[..., Any]) -> Victim:
        found = Victim(await register("eve@example.com"), Forger())
        assert (await found.add(found.key)).status_code == 201
        return found

    async def sign_up(self, eve: Victim, email: str, key: Forger) -> tuple[int, dict[str, Any]]:
        options = await eve.options("/auth/passkey/sign-up/options", {"email": email})
        body = {"email": email, "credential": key.create(options)}
        answer = await eve.ask("/auth/signup", body, signed_in=False)
        return answer.status_code, {**answer.json(), "id": "", "email": ""}

    async def seen(self, eve: Victim, email: str) -> list[Any]:
        """Everything that Eve can do with an address and keys of hers, and what there is to see."""
        seen: list[Any] = []

        def note(answer: httpx.Response) -> None:
            text = answer.json()
            seen.append((answer.status_code, text.get("code"), text.get("detail"), sorted(answer.headers)))

        options = await eve.options("/auth/passkey/sign-up/options", {"email": email})
        seen.append(
            {**options, "challenge": "", "user": {**options["user"], "id": "", "name": "", "displayName": ""}}
        )
        key = Forger()
        seen.append(await self.sign_up(eve, email, key))
        note(await eve.sign_in(key))
        key.sent = {"signature": "AAAA"}
        note(await eve.sign_in(key))
        key.sent = {}
        seen.append(await self.sign_up(eve, email, key))
        seen.append(await self.sign_up(eve, email, eve.key))
        seen.append(await self.sign_up(eve, f"other-{email}", key))
        note(await eve.add(key))
        note(await eve.sign_in(key))
        (added,) = [each for each in await Passkey.all() if each.credential_id == encoded(key.id)]
        answer = await eve.client.delete(f"{OWN}/{added.id}", headers=eve.account.headers)
        seen.append(answer.status_code)
        note(await eve.sign_in(Forger(id=b"nobody", handle=b"h" * 16)))
        body = {"email": f"p-{email}", "password": PASSWORD}
        note(await eve.ask("/auth/signup", body, signed_in=False))
        note(await eve.ask(LOGIN, body, signed_in=False))
        note(
            await eve.ask(
                "/auth/login", {**body, "passkey": Forger(handle=b"h").get(options)}, signed_in=False
            )
        )
        return seen

    async def test_nothing_that_an_outsider_does_with_keys_tells_whether_there_is_an_account(
        self, eve: Victim
    ) -> None:
        taken = {"hashed_password": "none", "is_verified": True}
        for email in ("taken@example.com", "p-taken@example.com"):
            await User.create(email=email, **taken)
        seen = {kind: await self.seen(eve, f"{kind}@example.com") for kind in ("taken", "fresh")}
        assert seen["taken"] == seen["fresh"]

    async def test_who_signed_up_gets_another_link_for_a_right_signature_alone(
        self, eve: Victim, mailbox: Mailbox
    ) -> None:
        key = Forger()
        await self.sign_up(eve, "fresh@example.com", key)
        mailbox.clear()
        key.sent = {"signature": "AAAA"}
        refused(await eve.sign_in(key), "invalid_credentials")
        assert not mailbox.messages
        key.sent = {}
        refused(await eve.sign_in(key), "invalid_credentials")
        assert [message["To"] for message in mailbox.messages] == ["fresh@example.com"]


async def test_the_options_of_a_sign_in_are_the_same_for_everybody(victim: Victim) -> None:
    """Section 14.6.3: no list of credentials by address, ever."""
    first, second = [await victim.options("/auth/passkey/options") for _ in range(2)]
    assert first["allowCredentials"] == []
    assert first.pop("challenge") != second.pop("challenge")
    assert first == second
    extra = await victim.ask("/auth/passkey/options", {"email": EMAIL}, signed_in=False)
    assert extra.json()["allowCredentials"] == []
    assert timedelta(milliseconds=first["timeout"]) == timedelta(minutes=5)
    assert (ELIGIBLE, first["userVerification"]) == (8, "required")
