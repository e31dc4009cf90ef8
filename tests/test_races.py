"""Races between requests on two workers and PostgreSQL, released together, round after round."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import httpx
import pyotp
import pytest
from tortoise.context import TortoiseContext

from fastapi_pluggable_auth import Auth, AuthError, AuthSettings, ErrorCode
from fastapi_pluggable_auth.email.tokens import Purpose, link_state
from fastapi_pluggable_auth.features.social_login.states import s256
from fastapi_pluggable_auth.features.social_login.testing import IdentityProvider
from fastapi_pluggable_auth.models import Identity, Mail, RecoveryCode, RefreshToken, Session, User
from fastapi_pluggable_auth.security.hashing import hash_password
from fastapi_pluggable_auth.security.jwt import ACCESS, REFRESH

from . import databases
from .conftest import EMAIL, PASSWORD, SECRET, Database, Mailbox
from .smtp_server import MailServer
from .test_workers import Server

DIALECTS = ("postgres",)
ROUNDS = int(os.environ.get("TEST_RACE_ROUNDS", "3"))
MAX_SESSIONS = 20
HASHED = hash_password(PASSWORD, AuthSettings(_env_file=None, bcrypt_rounds=4))

Answer = Awaitable[httpx.Response]


@pytest.fixture(scope="module")
def provider() -> Iterator[IdentityProvider]:
    with IdentityProvider().serving() as provider:
        yield provider


@pytest.fixture(scope="module")
def server(
    database_urls: Callable[[str], str], mail_server: MailServer, provider: IdentityProvider
) -> Iterator[Server]:
    """Two workers for all races of this file."""
    if not databases.answers("postgres"):
        pytest.skip("no PostgreSQL server answers")
    server = Server(
        Database("postgres", database_urls("postgres")),
        mail_server.port,
        AUTH_MAX_SESSIONS=str(MAX_SESSIONS),
        AUTH_THROTTLE_FREE_ATTEMPTS="10000",
        AUTH_MAIL_LIMIT="10000",
        AUTH_SMTP_TIMEOUT="2",
        TEST_ISSUER=provider.issuer,
    )
    yield server
    server.stop()


@pytest.fixture
def database(server: Server, database_urls: Callable[[str], str]) -> Database:
    """What the workers use."""
    return Database("postgres", database_urls("postgres"))


@dataclass
class TwoWorkers:
    """The workers, and the accounts of a test."""

    http: httpx.AsyncClient
    auth: Auth

    async def user(self, email: str = EMAIL, **columns: object) -> User:
        """A verified user with the usual password."""
        await User.filter(email=email).delete()
        given = {"email": email, "hashed_password": HASHED, "is_verified": True} | columns
        return await User.create(**given)

    def post(self, path: str, access: str | None = None, /, **body: object) -> Answer:
        """A POST, with an access token where one is given."""
        headers = {"Authorization": f"Bearer {access}"} if access else {}
        return self.http.post(path, json=body or None, headers=headers)

    def login(self, email: str = EMAIL, password: str = PASSWORD, **more: str) -> Answer:
        return self.post("/auth/login", email=email, password=password, **more)

    async def tokens(self, **arguments: str) -> dict[str, str]:
        """The tokens of a login."""
        answer = await self.login(**arguments)
        assert answer.status_code == 200, answer.text
        tokens: dict[str, str] = answer.json()
        return tokens

    async def me(self, access: str) -> int:
        answer = await self.http.get("/auth/me", headers={"Authorization": f"Bearer {access}"})
        return answer.status_code

    def link(self, purpose: Purpose, user: User) -> str:
        """The token that a mail would carry now."""
        return self.auth.links.generate(purpose, user.id, link_state(purpose, user))

    async def assert_all_dead(self, pairs: list[dict[str, str]]) -> None:
        """No access token and no refresh token of these works."""
        assert {await self.me(pair["access_token"]) for pair in pairs} == {401}
        refreshes = [await self.post("/auth/refresh", token=pair["refresh_token"]) for pair in pairs]
        assert {answer.status_code for answer in refreshes} == {401}


@pytest.fixture
async def workers(server: Server, tortoise: TortoiseContext, mailbox: Mailbox) -> AsyncIterator[TwoWorkers]:
    auth = Auth(AuthSettings(_env_file=None, jwt_secret=SECRET, bcrypt_rounds=4))
    limits = httpx.Limits(max_connections=64)
    async with httpx.AsyncClient(base_url=server.base, limits=limits, timeout=30) as http:
        await asyncio.gather(*(http.get("/worker") for _ in range(40)))  # warm connections to both
        yield TwoWorkers(http, auth)
    await auth.close()


def pairs_of(answers: list[httpx.Response]) -> list[dict[str, str]]:
    found = [answer.json() for answer in answers if answer.status_code == 200]
    return [pair for pair in found if "access_token" in pair]


def statuses(answers: list[httpx.Response]) -> Counter[int]:
    return Counter(answer.status_code for answer in answers)


# --- sessions --------------------------------------------------------------------------------------------


async def test_nothing_of_a_session_outlives_a_logout_that_a_refresh_races_with(workers: TwoWorkers) -> None:
    """R-02."""
    for _ in range(ROUNDS):
        await workers.user()
        pair = await workers.tokens()
        answers = await asyncio.gather(
            *(workers.post("/auth/refresh", token=pair["refresh_token"]) for _ in range(8)),
            workers.post("/auth/logout", pair["access_token"]),
            *(workers.post("/auth/refresh", token=pair["refresh_token"]) for _ in range(8)),
        )
        assert answers[8].status_code == 200
        assert set(statuses(answers)) <= {200, 401}
        await workers.assert_all_dead([pair, *pairs_of(answers)])


@pytest.mark.parametrize("by", ["change", "reset"])
async def test_no_session_outlives_a_password_that_a_refresh_races_with(by: str, workers: TwoWorkers) -> None:
    """R-03: over five sessions."""
    for _ in range(ROUNDS):
        user = await workers.user()
        pairs = [await workers.tokens() for _ in range(5)]
        new = {"new_password": "a new horse battery"}
        change = (
            workers.post(f"/auth/reset-password/{workers.link(Purpose.RESET, user)}", **new)
            if by == "reset"
            else workers.post(
                "/account/change-password", pairs[0]["access_token"], old_password=PASSWORD, **new
            )
        )
        refreshes = [workers.post("/auth/refresh", token=pair["refresh_token"]) for pair in pairs]
        answers = await asyncio.gather(*refreshes[:2], change, *refreshes[2:])
        assert answers[2].status_code == (200 if by == "reset" else 204), answers[2].text
        await workers.assert_all_dead([*pairs, *pairs_of(answers)])
        assert await RefreshToken.filter(revoked=False).count() == 0


@pytest.mark.parametrize("by", ["deletion", "disabling"])
async def test_no_token_outlives_an_account_that_logins_and_refreshes_race_with(
    by: str, workers: TwoWorkers
) -> None:
    """R-04: no orphan rows, no foreign-key error."""
    for _ in range(ROUNDS):
        user = await workers.user()
        pair = await workers.tokens()

        async def end(user_id: UUID, access: str) -> int:
            if by == "disabling":
                return await User.filter(id=user_id).update(is_active=False)
            headers = {"Authorization": f"Bearer {access}"}
            return (await workers.http.delete("/account", headers=headers)).status_code

        *answers, ended = await asyncio.gather(
            *(workers.login() for _ in range(4)),
            workers.post("/auth/refresh", token=pair["refresh_token"]),
            *(workers.login() for _ in range(4)),
            end(user.id, pair["access_token"]),
        )
        assert ended == (1 if by == "disabling" else 204)
        assert set(statuses(answers)) <= {200, 401}, [answer.text for answer in answers]
        await workers.assert_all_dead([pair, *pairs_of(answers)])
        if by == "deletion":
            assert await RefreshToken.all().count() == await Session.all().count() == 0


async def test_logins_at_once_leave_as_many_sessions_as_allowed(workers: TwoWorkers) -> None:
    """R-07, A-50."""
    await workers.user()
    for _ in range(ROUNDS):
        answers = await asyncio.gather(*(workers.login() for _ in range(MAX_SESSIONS + 5)))
        assert statuses(answers) == {200: MAX_SESSIONS + 5}
        assert await Session.filter(revoked_at=None).count() == MAX_SESSIONS
        alive = [await workers.me(pair["access_token"]) for pair in pairs_of(answers)]
        assert alive.count(200) == MAX_SESSIONS


async def test_a_session_has_an_id_of_its_own_whatever_the_client_sends(workers: TwoWorkers) -> None:
    """A-41: nothing of an earlier session is adopted."""
    await workers.user()
    first = await workers.tokens()
    sessions = {session.id for session in await Session.all()}
    answer = await workers.http.post(
        "/auth/login",
        json={"email": EMAIL, "password": PASSWORD},
        headers={
            "Authorization": f"Bearer {first['access_token']}",
            "X-Session-Id": str(*sessions),
            "Cookie": f"session={str(*sessions)}; sessionid={str(*sessions)}",
        },
    )
    assert answer.status_code == 200
    assert "set-cookie" not in answer.headers
    assert await Session.exclude(id__in=sessions).count() == 1
    refused = await workers.login(session_id=str(*sessions))
    assert refused.status_code == 422


# --- accounts and links ----------------------------------------------------------------------------------


async def test_spellings_of_one_address_make_one_account(workers: TwoWorkers, mailbox: Mailbox) -> None:
    """R-09, A-24: NFC and NFD, ASCII and Unicode domain, the Kelvin sign."""
    spellings = ["é.k@bücher.de", "e\u0301.k@bücher.de", "é.k@xn--bcher-kva.de", "É.\u212a@BÜCHER.de"] * 5
    answers = await asyncio.gather(
        *(workers.post("/auth/signup", email=email, password=PASSWORD) for email in spellings)
    )
    assert statuses(answers) == {201: 1, 400: 19}
    assert await User.all().count() == await Mail.all().count() == 1
    await User.all().update(is_verified=True)
    assert {(await workers.login(email=email)).status_code for email in spellings[:4]} == {200}


async def test_a_reset_link_sets_one_of_twenty_passwords(workers: TwoWorkers) -> None:
    """R-10."""
    for _ in range(ROUNDS):
        user = await workers.user()
        path = f"/auth/reset-password/{workers.link(Purpose.RESET, user)}"
        passwords = [f"password number {number}" for number in range(20)]
        answers = await asyncio.gather(*(workers.post(path, new_password=each) for each in passwords))
        assert statuses(answers) == {200: 1, 400: 19}
        (winner,) = [index for index, answer in enumerate(answers) if answer.status_code == 200]
        logins = await asyncio.gather(*(workers.login(password=each) for each in passwords))
        assert [index for index, answer in enumerate(logins) if answer.status_code == 200] == [winner]


async def test_of_two_reset_links_at_once_one_works(workers: TwoWorkers) -> None:
    """R-11, A-33."""
    for _ in range(ROUNDS):
        user = await workers.user()
        links = [workers.link(Purpose.RESET, user) for _ in range(2)]  # one, where the clock stands still
        answers = await asyncio.gather(
            *(
                workers.post(f"/auth/reset-password/{link}", new_password=f"staple horse {number}")
                for number, link in enumerate(links)
            )
        )
        assert statuses(answers) == {200: 1, 400: 1}


async def test_no_session_of_the_old_password_outlives_a_reset(workers: TwoWorkers) -> None:
    """R-12."""
    for _ in range(ROUNDS):
        user = await workers.user()
        pair = await workers.tokens()
        path = f"/auth/reset-password/{workers.link(Purpose.RESET, user)}"
        answers = await asyncio.gather(
            *(workers.login() for _ in range(5)),
            workers.post(path, new_password="a new horse battery"),
            *(workers.login() for _ in range(5)),
        )
        assert answers[5].status_code == 200
        await workers.assert_all_dead([pair, *pairs_of(answers)])


async def test_a_verification_link_verifies_once(workers: TwoWorkers) -> None:
    """R-13."""
    for _ in range(ROUNDS):
        user = await workers.user(is_verified=False)
        path = f"/auth/verify/{workers.link(Purpose.VERIFY, user)}"
        answers = await asyncio.gather(*(workers.http.get(path) for _ in range(20)))
        assert statuses(answers) == {200: 1, 400: 19}
        assert len({answer.content for answer in answers if answer.status_code == 400}) == 1


async def test_verifying_the_old_address_and_confirming_the_new_one_agree(workers: TwoWorkers) -> None:
    """R-16: the verified flag belongs to the address that is stored."""
    for _ in range(ROUNDS):
        user = await workers.user(is_verified=False, pending_email="new@example.com")
        await User.filter(email="new@example.com").delete()
        answers = await asyncio.gather(
            workers.http.get(f"/auth/verify/{workers.link(Purpose.VERIFY, user)}"),
            workers.http.post(f"/auth/email-change/{workers.link(Purpose.EMAIL_CHANGE, user)}"),
        )
        assert statuses(answers) == {200: 1, 400: 1}
        after = await User.get(id=user.id)
        assert after.is_verified
        assert after.email == (EMAIL if answers[0].status_code == 200 else "new@example.com")
        assert after.pending_email is None


async def test_of_two_users_who_confirm_one_address_one_gets_it(workers: TwoWorkers) -> None:
    """R-17, A-30."""
    for _ in range(ROUNDS):
        await User.all().delete()
        users = [
            await workers.user(f"{name}@example.com", pending_email="wanted@example.com") for name in "ab"
        ]
        answers = await asyncio.gather(
            *(workers.http.post(f"/auth/email-change/{workers.link(Purpose.EMAIL_CHANGE, u)}") for u in users)
        )
        assert statuses(answers) == {200: 1, 400: 1}
        emails = sorted([user.email for user in await User.all()])
        assert emails[1] == "wanted@example.com"
        assert emails[0] in ("a@example.com", "b@example.com")


async def test_of_two_changes_of_a_password_one_wins_and_no_profile_change_is_lost(
    workers: TwoWorkers,
) -> None:
    """R-21."""
    for _ in range(ROUNDS):
        await workers.user()
        access = (await workers.tokens())["access_token"]
        passwords = ["first of the two", "second of the two"]
        answers = await asyncio.gather(
            *(
                workers.post("/account/change-password", access, old_password=PASSWORD, new_password=each)
                for each in passwords
            )
        )
        assert statuses(answers)[204] == 1
        assert set(statuses(answers)) <= {204, 401, 403}
        logins = [(await workers.login(password=each)).status_code for each in passwords]
        assert sorted(logins) == [200, 401]
        pair = await workers.tokens(password=passwords[logins.index(200)])
        headers = {"Authorization": f"Bearer {pair['access_token']}"}
        await asyncio.gather(
            workers.http.patch("/account", json={"display_name": "Ada"}, headers=headers),
            workers.http.patch("/account", json={"email": "wanted@example.com"}, headers=headers),
        )
        after = await User.get(email=EMAIL)
        assert (after.display_name, after.pending_email) == ("Ada", "wanted@example.com")


async def test_nothing_of_a_deleted_account_works_for_its_successor(workers: TwoWorkers) -> None:
    """R-22, A-59."""
    user = await workers.user(is_verified=False)
    verify, reset = workers.link(Purpose.VERIFY, user), workers.link(Purpose.RESET, user)
    await User.filter(id=user.id).update(is_verified=True)
    pair = await workers.tokens()
    headers = {"Authorization": f"Bearer {pair['access_token']}"}
    assert (await workers.http.delete("/account", headers=headers)).status_code == 204
    signup = await workers.post("/auth/signup", email=EMAIL, password=PASSWORD)
    assert signup.json()["id"] != str(user.id)
    await workers.assert_all_dead([pair])
    assert (await workers.http.get(f"/auth/verify/{verify}")).status_code == 400
    answer = await workers.post(f"/auth/reset-password/{reset}", new_password="a new horse battery")
    assert answer.status_code == 400


# --- second factor ---------------------------------------------------------------------------------------

SEED = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
ENROLLED = {"totp_secret": SEED, "totp_confirmed": True}


def code(seed: str = SEED) -> str:
    return pyotp.TOTP(seed).at(datetime.now(UTC))


async def test_one_code_signs_one_of_ten_in(workers: TwoWorkers) -> None:
    """R-14, A-69."""
    for _ in range(ROUNDS):
        await workers.user(**ENROLLED)
        current = code()
        answers = await asyncio.gather(*(workers.login(code=current) for _ in range(10)))
        assert statuses(answers) == {200: 1, 401: 9}


async def test_one_recovery_code_signs_one_of_ten_in_and_none_after_a_renewal(workers: TwoWorkers) -> None:
    """R-15, A-73."""
    for _ in range(ROUNDS):
        await workers.user(**ENROLLED)
        access = (await workers.tokens(code=code()))["access_token"]
        codes = (await workers.post("/auth/2fa/recovery-codes", access)).json()["codes"]
        answers = await asyncio.gather(*(workers.login(code=codes[0]) for _ in range(10)))
        assert statuses(answers) == {200: 1, 401: 9}
        *logins, renewal = await asyncio.gather(
            *(workers.login(code=each) for each in codes[1:5]),
            workers.post("/auth/2fa/recovery-codes", access),
        )
        assert renewal.status_code == 200
        assert set(statuses(logins)) <= {200, 401}
        assert {(await workers.login(code=each)).status_code for each in codes} == {401}
        assert await RecoveryCode.all().count() == 10


async def comes_from(server: Server) -> str:
    """The one-time code of a browser that has been at the provider: begun with one worker, or the other."""
    async with httpx.AsyncClient(base_url=server.base, timeout=30) as browser:
        start = await browser.get(f"/auth/social/acme/start?code_challenge={s256('v' * 43)}")
        there = (await browser.get(start.headers["location"])).headers["location"]
        back = await browser.get(there.removeprefix("http://localhost:8000"))
    assert back.status_code == 303, back.text
    return parse_qs(urlsplit(back.headers["location"]).query)["social_code"][0]


async def test_ten_first_logins_at_once_on_two_workers_make_one_account(
    workers: TwoWorkers, server: Server, provider: IdentityProvider
) -> None:
    """Each is signed in, and each code gives one session."""
    for number in range(ROUNDS):
        provider.user(f"kim{number}@example.com")
        codes = await asyncio.gather(*(comes_from(server) for _ in range(10)))
        body = {"code_verifier": "v" * 43}
        answers = await asyncio.gather(
            *(
                workers.post("/auth/social/exchange", social_code=code, **body)
                for code in codes
                for _ in range(2)
            )
        )
        assert Counter(answer.status_code == 200 for answer in answers) == {True: 10, False: 10}
        user = await User.get(email=f"kim{number}@example.com")
        assert await Identity.filter(user_id=user.id).count() == 1
        assert await Session.filter(user_id=user.id, revoked_at=None).count() == 10
    assert await User.all().count() == await Identity.all().count() == ROUNDS


async def test_a_token_of_a_native_app_signs_in_once_on_two_workers(
    workers: TwoWorkers, provider: IdentityProvider
) -> None:
    provider.user("kim@example.com")
    for _ in range(ROUNDS):
        nonce = (await workers.post("/auth/social/acme/nonce")).json()["nonce"]
        body = {"nonce": nonce, "id_token": provider.id_token(nonce)}
        answers = await asyncio.gather(*(workers.post("/auth/social/acme/token", **body) for _ in range(10)))
        assert Counter(answer.status_code for answer in answers) == {200: 1, 401: 9}


async def test_of_two_tabs_that_enrol_one_seed_is_active_and_its_holder_knows(workers: TwoWorkers) -> None:
    """R-18."""
    for _ in range(ROUNDS):
        await workers.user()
        access = (await workers.tokens())["access_token"]
        tabs = await asyncio.gather(*(workers.post("/auth/2fa/enable", access) for _ in range(2)))
        seeds = [pyotp.parse_uri(tab.json()["otpauth_uri"]).secret for tab in tabs]  # type: ignore[attr-defined]
        answers = await asyncio.gather(
            *(workers.post("/auth/2fa/verify", access, code=code(s)) for s in seeds)
        )
        assert statuses(answers) == {200: 1, 400: 1}
        (active,) = [seed for seed, answer in zip(seeds, answers, strict=True) if answer.status_code == 200]
        assert (await User.get(email=EMAIL)).totp_secret == active
        logins = [(await workers.login(code=code(seed))).status_code for seed in seeds]
        assert sorted(logins) == [200, 401]
        assert logins[seeds.index(active)] == 200


async def test_no_session_without_a_code_starts_before_two_factor_is_off(workers: TwoWorkers) -> None:
    """R-19: a login with the password alone works only after the switch."""
    for _ in range(ROUNDS):
        await workers.user(**ENROLLED)
        access = (await workers.tokens(code=code()))["access_token"]
        before, off, *during = await asyncio.gather(
            workers.login(),
            workers.post("/account/2fa/disable", access),
            *(workers.login() for _ in range(6)),
        )
        assert off.status_code == 204
        assert set(statuses([before, *during])) <= {200, 401}
        # Whoever got in without a code did so on an account without a second factor.
        assert not (await User.get(email=EMAIL)).two_factor_active
        assert (await workers.login()).status_code == 200
        assert await RecoveryCode.all().count() == 0


# --- mail ------------------------------------------------------------------------------------------------


async def test_a_mail_server_that_hangs_holds_nobody_up(workers: TwoWorkers, mailbox: Mailbox) -> None:
    """R-24: 200 requests for mail, each answered in time, and others as well meanwhile."""
    await workers.user()
    access = (await workers.tokens())["access_token"]
    mailbox.server.behaviour = "hang"
    taken: list[float] = []
    for number in range(20):
        started = time.perf_counter()
        signups = [
            workers.post("/auth/signup", email=f"{number}.{each}@example.com", password=PASSWORD)
            for each in range(5)
        ]
        forgotten = [workers.post("/auth/forgot-password", email=EMAIL) for _ in range(5)]
        answers = await asyncio.gather(*signups, *forgotten)
        taken.append(time.perf_counter() - started)
        assert statuses(answers) == {200: 5, 201: 5}
        assert await workers.me(access) == 200
    assert median(taken) < 1, "seconds for ten requests at once, where the mail server takes two"
    mailbox.server.behaviour = "accept"


# --- processes -------------------------------------------------------------------------------------------


def test_tokens_and_seeds_of_four_processes_are_all_different() -> None:
    """R-38, A-40, A-66."""
    program = (
        "from fastapi_pluggable_auth.security.jwt import new_token_id\n"
        "from fastapi_pluggable_auth.security.totp import generate_totp_secret\n"
        "for _ in range(2500): print(new_token_id(), generate_totp_secret())\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    lines = [line.split() for process in processes for line in process.communicate()[0].splitlines()]
    assert len(lines) == 10_000
    for column in zip(*lines, strict=True):
        assert len(set(column)) == 10_000
    assert {len(seed) for _, seed in lines} == {32}


async def test_a_new_secret_ends_every_session_of_a_restored_database(workers: TwoWorkers) -> None:
    """R-39: the documented way after a restore."""
    await workers.user()
    pair = await workers.tokens()
    backup = await RefreshToken.all().values()
    spent = await workers.post("/auth/refresh", token=pair["refresh_token"])
    assert spent.status_code == 200
    await RefreshToken.all().delete()
    await RefreshToken.bulk_create([RefreshToken(**row) for row in backup])
    other = Auth(AuthSettings(_env_file=None, jwt_secret=SECRET[::-1]))
    for token, typ in ((pair["access_token"], ACCESS), (pair["refresh_token"], REFRESH)):
        with pytest.raises(AuthError) as refused:
            other.signer.verify(token, typ)
        assert refused.value.code is ErrorCode.INVALID_TOKEN
