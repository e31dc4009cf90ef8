"""Signing in by two steps, for pages: the password first, then the code."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Any

import pyotp
import pytest

from fastapi_pluggable_auth import Auth, AuthError, AuthSettings, SecurityEvent
from fastapi_pluggable_auth.features.administration.users import end_sessions, require_password_reset
from fastapi_pluggable_auth.flows.login import Challenge, answer_challenge, begin_login
from fastapi_pluggable_auth.flows.pending import attempt
from fastapi_pluggable_auth.flows.purge import purge
from fastapi_pluggable_auth.flows.session_tokens import TokenSet
from fastapi_pluggable_auth.hooks import BeforeLogin
from fastapi_pluggable_auth.models import Pending, Session, User

from .conftest import EMAIL, PASSWORD, Account, Clock, on_one_database
from .test_twofa import post, totp

__all__ = ["totp"]


async def challenged(auth: Auth) -> str:
    """The token after the right password."""
    begun = await begin_login(auth, EMAIL, PASSWORD)
    assert isinstance(begun, Challenge)
    return begun.token


async def refusal(work: Any) -> str:
    with pytest.raises(AuthError) as refused:
        await work
    return refused.value.code.code


@on_one_database
async def test_without_two_factor_one_step_is_enough(account: Account, auth: Auth) -> None:
    begun = await begin_login(auth, EMAIL, PASSWORD)
    assert isinstance(begun, TokenSet)
    assert (await account.me(begun.access_token)).status_code == 200


async def test_the_password_alone_gives_a_challenge_and_the_code_a_session(
    totp: pyotp.TOTP, account: Account, auth: Auth, clock: Clock
) -> None:
    """A-64."""
    before = await Session.all().count()
    challenge = await challenged(auth)
    assert await Session.all().count() == before
    tokens = await answer_challenge(auth, challenge, totp.at(clock()))
    assert (await account.me(tokens.access_token)).status_code == 200


@on_one_database
async def test_a_challenge_is_no_token(totp: pyotp.TOTP, account: Account, auth: Auth) -> None:
    """A-56, A-65."""
    account.access_token = challenge = await challenged(auth)
    assert (await account.me()).status_code == 401
    assert (await account.refresh(challenge)).status_code == 401
    change = {"old_password": PASSWORD, "new_password": "a new horse battery"}
    assert (await post(account, "/account/change-password", **change)).status_code == 401
    for path in ("verify", "reset-password", "email-change"):
        assert (await account.client.get(f"/auth/{path}/{challenge}")).status_code == 400


@on_one_database
async def test_no_other_token_is_a_challenge(
    totp: pyotp.TOTP, account: Account, auth: Auth, clock: Clock
) -> None:
    """A-56, A-65."""
    code = totp.at(clock())
    for token in (
        account.access_token,
        account.refresh_token,
        "",
        "a.b.c",
        "\0",
        (await challenged(auth))[:-4],
    ):
        assert await refusal(answer_challenge(auth, token, code)) == "invalid_token"
    assert isinstance(await answer_challenge(auth, await challenged(auth), code), TokenSet)


async def test_a_challenge_lasts_five_minutes(totp: pyotp.TOTP, auth: Auth, clock: Clock) -> None:
    """A-65."""
    challenge = await challenged(auth)
    clock.advance(minutes=4, seconds=55)
    assert await refusal(answer_challenge(auth, challenge, "000000")) == "invalid_credentials"
    clock.advance(seconds=10)
    assert await refusal(answer_challenge(auth, challenge, totp.at(clock()))) == "invalid_token"


async def test_a_challenge_is_good_for_one_success(
    totp: pyotp.TOTP, account: Account, auth: Auth, clock: Clock
) -> None:
    """A-65: wrong codes before it are no use of it."""
    challenge = await challenged(auth)
    for code in ("000000", "", "x" * 100, "１２３４５６"):
        assert await refusal(answer_challenge(auth, challenge, code)) == "invalid_credentials"
    await answer_challenge(auth, challenge, totp.at(clock()))
    clock.advance(minutes=1)
    assert await refusal(answer_challenge(auth, challenge, totp.at(clock()))) == "invalid_token"


async def test_a_challenge_raced_with_several_right_codes_has_one_success(
    totp: pyotp.TOTP, account: Account, auth: Auth, clock: Clock
) -> None:
    """A-65, A-69: recovery codes too, each of which is good by itself."""
    codes = (await post(account, "/auth/2fa/recovery-codes")).json()["codes"]
    before = await Session.all().count()
    challenge = await challenged(auth)
    tries = [answer_challenge(auth, challenge, code) for code in (*codes, totp.at(clock()))]
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(result, TokenSet) for result in results) == 1
    refused = {result.code.code for result in results if isinstance(result, AuthError)}
    assert refused <= {"invalid_credentials", "invalid_token"}
    assert await Session.all().count() == before + 1


CHANGES: dict[str, Callable[[Account, Auth, str], Any]] = {
    "password change": lambda account, _, code: post(
        account, "/account/change-password", old_password=PASSWORD, new_password="a new horse battery"
    ),
    "two-factor off": lambda account, _, code: post(account, "/account/2fa/disable"),
    "another login": lambda account, _, code: account.login(code),
    "disabled": lambda account, auth, code: User.all().update(is_active=False),
    "deleted": lambda account, auth, code: account.client.delete("/account", headers=account.headers),
}


@on_one_database
@pytest.mark.parametrize("change", CHANGES)
async def test_a_challenge_dies_with_what_it_stands_for(
    totp: pyotp.TOTP, account: Account, auth: Auth, clock: Clock, change: str
) -> None:
    """A-65."""
    challenge = await challenged(auth)
    await CHANGES[change](account, auth, totp.at(clock()))
    clock.advance(minutes=1)
    assert await refusal(answer_challenge(auth, challenge, totp.at(clock()))) == "invalid_token"


async def test_a_challenge_dies_with_a_reset(
    totp: pyotp.TOTP, account: Account, auth: Auth, clock: Clock
) -> None:
    """A-65."""
    challenge = await challenged(auth)
    await account.client.post("/auth/forgot-password", json={"email": EMAIL})
    link = f"/auth/reset-password/{account.mailbox.token()}"
    assert (await account.client.post(link, json={"new_password": "a new horse"})).status_code == 200
    assert await refusal(answer_challenge(auth, challenge, totp.at(clock()))) == "invalid_token"


@on_one_database
async def test_both_steps_pass_the_one_gate(
    totp: pyotp.TOTP, account: Account, auth: Auth, clock: Clock
) -> None:
    """A-64: whoever may not sign in is refused in either."""
    assert await refusal(begin_login(auth, EMAIL, "wrong password")) == "invalid_credentials"
    assert await refusal(begin_login(auth, "nobody@example.com", PASSWORD)) == "invalid_credentials"
    challenge = await challenged(auth)
    await User.all().update(is_verified=False)
    assert await refusal(begin_login(auth, EMAIL, PASSWORD)) == "email_not_verified"
    assert await refusal(answer_challenge(auth, challenge, totp.at(clock()))) == "email_not_verified"
    await User.all().update(is_verified=True)
    await require_password_reset(auth, (await User.get()).id)
    assert await refusal(begin_login(auth, EMAIL, PASSWORD)) == "password_reset_required"
    # An end of all access ends the login under way as well.
    assert await refusal(answer_challenge(auth, challenge, totp.at(clock()))) == "invalid_token"


@on_one_database
async def test_the_first_step_renews_an_outdated_hash_and_the_second_still_works(
    totp: pyotp.TOTP, account: Account, auth: Auth, settings: AuthSettings, clock: Clock
) -> None:
    before = (await User.get()).hashed_password
    settings.bcrypt_rounds = 5
    challenge = await challenged(auth)
    after = (await User.get()).hashed_password
    assert (before[:7], after[:7]) == ("$2b$04$", "$2b$05$")
    assert isinstance(await answer_challenge(auth, challenge, totp.at(clock())), TokenSet)
    assert (await User.get()).hashed_password == after


async def test_new_challenges_give_no_new_guesses(
    totp: pyotp.TOTP, account: Account, auth: Auth, settings: AuthSettings, clock: Clock
) -> None:
    """A-71: codes are counted per account, and then the right one is refused as well."""
    settings.throttle_free_attempts = 3
    for _ in range(3):
        assert (
            await refusal(answer_challenge(auth, await challenged(auth), "000000")) == "invalid_credentials"
        )
    clock.advance(seconds=2)
    challenge = await challenged(auth)
    assert await refusal(answer_challenge(auth, challenge, "000000")) == "invalid_credentials"
    assert await refusal(answer_challenge(auth, challenge, totp.at(clock()))) == "throttled"
    assert await refusal(begin_login(auth, EMAIL, PASSWORD)) == "throttled"


async def test_a_challenge_is_good_for_twenty_codes(
    totp: pyotp.TOTP, account: Account, auth: Auth, settings: AuthSettings, clock: Clock
) -> None:
    settings.throttle_free_attempts = 100
    challenge = await challenged(auth)
    for _ in range(20):
        assert await refusal(answer_challenge(auth, challenge, "000000")) == "invalid_credentials"
    assert await refusal(answer_challenge(auth, challenge, totp.at(clock()))) == "invalid_token"
    assert isinstance(await answer_challenge(auth, await challenged(auth), totp.at(clock())), TokenSet)


@on_one_database
async def test_of_codes_at_once_as_many_are_looked_at_as_allowed(
    totp: pyotp.TOTP, account: Account, auth: Auth
) -> None:
    await challenged(auth)
    read = await Pending.get()  # by all of them, before any is counted
    assert [await attempt(auth, read, 3) for _ in range(5)] == [1, 2, 3, 0, 0]
    await Pending.all().delete()
    assert not await attempt(auth, read, 4)


async def test_a_challenge_is_stored_as_a_digest_until_it_expires(
    totp: pyotp.TOTP, account: Account, auth: Auth, clock: Clock
) -> None:
    challenge = await challenged(auth)
    row = await Pending.get()
    assert challenge not in str([getattr(row, name) for name in Pending._meta.db_fields])
    assert (await purge(auth))["auth_pending"] == 0
    clock.advance(minutes=6)
    assert (await purge(auth))["auth_pending"] == 1


@on_one_database
async def test_what_waits_is_good_for_its_row_and_the_keys_of_the_app(
    totp: pyotp.TOTP, account: Account, auth: Auth, clock: Clock
) -> None:
    """ASVS 11.3.2: who can write the table puts no other words into what waits."""
    first, second = await challenged(auth), await challenged(auth)
    rows = await Pending.all()
    for row, other in zip(rows, reversed(rows), strict=True):
        await Pending.filter(id=row.id).update(data=other.data)
    for challenge in (first, second):
        assert await refusal(answer_challenge(auth, challenge, totp.at(clock()))) == "invalid_token"
    await Pending.all().update(data='{"factors": []}')
    assert await refusal(answer_challenge(auth, first, totp.at(clock()))) == "invalid_token"
    third, former = await challenged(auth), auth.settings.jwt_secret
    auth.settings.jwt_secret = secrets.token_urlsafe(48)
    assert await refusal(answer_challenge(auth, third, totp.at(clock()))) == "invalid_token"
    auth.settings.jwt_previous_keys = [former]
    assert isinstance(await answer_challenge(auth, third, totp.at(clock())), TokenSet)


@on_one_database
async def test_each_step_is_an_event(totp: pyotp.TOTP, account: Account, auth: Auth, clock: Clock) -> None:
    """A-90."""
    heard: list[SecurityEvent] = []
    auth.on(SecurityEvent)(heard.append)
    challenge = await challenged(auth)
    tokens = await answer_challenge(auth, challenge, totp.at(clock()))
    await refusal(answer_challenge(auth, challenge, "000000"))
    assert [(event.kind, event.reason, event.factors) for event in heard] == [
        ("login_begun", None, ("pwd",)),
        ("login", None, ("pwd", "otp")),
        ("login", "invalid_token", ()),
    ]
    assert heard[1].session_id == tokens.session_id


@on_one_database
@pytest.mark.parametrize("by_administrator", [False, True])
async def test_an_end_of_all_access_ends_the_login_under_way(
    by_administrator: bool, totp: pyotp.TOTP, account: Account, auth: Auth, clock: Clock
) -> None:
    """A-65: the thief who knows the password waits with his challenge."""
    challenge = await challenged(auth)
    if by_administrator:
        await end_sessions(auth, (await User.get()).id)
    else:
        await account.client.post("/auth/logout", headers=account.headers)
    assert await refusal(answer_challenge(auth, challenge, totp.at(clock()))) == "invalid_token"


async def test_an_end_of_all_access_while_the_code_is_looked_at_ends_the_login_too(
    totp: pyotp.TOTP, auth: Auth, clock: Clock
) -> None:
    """A hook of the host may take its time."""

    @auth.on(BeforeLogin)
    async def end(event: BeforeLogin) -> None:
        await end_sessions(auth, event.user.id)

    challenge = await challenged(auth)
    assert await refusal(answer_challenge(auth, challenge, totp.at(clock()))) == "invalid_credentials"
    assert await Session.filter(revoked_at=None).count() == 0
