"""The gate: what a session was opened with, and that no way around the second factor is shorter."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable
from datetime import datetime, timedelta
from functools import partial
from typing import Any, ClassVar

import pyotp
import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from fastapi_pluggable_auth import (
    Auth,
    AuthError,
    AuthSettings,
    Challenge,
    Refused,
    SecurityEvent,
    open_session,
)
from fastapi_pluggable_auth.features import EmailSignIn, Passkeys
from fastapi_pluggable_auth.features.administration.users import (
    disable_user,
    end_sessions,
    require_password_reset,
)
from fastapi_pluggable_auth.features.audit_log.recording import record
from fastapi_pluggable_auth.features.feature import CountsCodes, Feature
from fastapi_pluggable_auth.features.passkeys.testing import VERIFIED
from fastapi_pluggable_auth.flows import pending
from fastapi_pluggable_auth.flows.gate import Proof
from fastapi_pluggable_auth.flows.login import answer_challenge, begin_challenge, begin_login
from fastapi_pluggable_auth.flows.pending import id_of
from fastapi_pluggable_auth.flows.session_tokens import TokenSet
from fastapi_pluggable_auth.hooks import BeforeLogin, LoggedIn
from fastapi_pluggable_auth.models import AbstractUser, AuditEvent, Passkey, Pending, Session, User
from fastapi_pluggable_auth.security.keys import key_set
from fastapi_pluggable_auth.security.mailed_codes import code_for
from fastapi_pluggable_auth.security.plaintext import Plaintext

from .authenticator import ORDINARY, Forger
from .conftest import EMAIL, PASSWORD, Account, Clock, claims_of, on_one_database
from .test_twofa import enrol, post, totp
from .world import World

__all__ = ["totp"]


async def refusal(work: Awaitable[object]) -> str:
    with pytest.raises(AuthError) as refused:
        await work
    return refused.value.code.code


class NameOfTheCat:
    """A second factor of a host: it is the user's display name, and no name is good twice."""

    factor = "cat"
    removed: ClassVar[dict[str, object]] = {}
    unchanged: ClassVar[dict[str, object]] = {}
    changes: ClassVar[dict[str, object]] = {"display_name": None}

    async def enrolled(self, auth: Auth, user: AbstractUser) -> bool:
        """Who has one."""
        return user.display_name is not None

    def state(self, user: AbstractUser) -> dict[str, object]:
        """It still is the same."""
        return {"display_name": user.display_name}

    async def check(
        self, auth: Auth, user: AbstractUser, answer: Plaintext, guess: CountsCodes
    ) -> NameOfTheCat | None:
        """Compares it."""
        await guess.count_code()
        return self if answer.take() == user.display_name else None

    async def spend(self, auth: Auth, user: AbstractUser) -> bool:
        """There is no more to write."""
        return True

    async def report(self, auth: Auth, observation: object) -> None:
        """Nor to report."""

    async def report_removal(self, auth: Auth, user: AbstractUser) -> None:
        """Nor here."""


async def test_the_gate_asks_for_the_second_factor_of_a_feature(
    account: Account, settings: AuthSettings, clock: Clock
) -> None:
    auth = Auth(settings, clock=clock, features=[Feature(name="cats", factors=(NameOfTheCat(),))])
    assert isinstance(await begin_login(auth, EMAIL, PASSWORD), TokenSet)
    await User.all().update(display_name="Tibbles")
    begun, other = [await begin_login(auth, EMAIL, PASSWORD) for _ in range(2)]
    assert isinstance(begun, Challenge)
    assert isinstance(other, Challenge)
    assert await refusal(answer_challenge(auth, begun.token, "Felix")) == "invalid_credentials"
    tokens = await answer_challenge(auth, begun.token, "Tibbles")
    assert claims_of(tokens.access_token)["amr"] == ["pwd", "cat"]
    assert await refusal(answer_challenge(auth, other.token, "Tibbles")) == "invalid_token"
    await auth.close()


# What a session was opened with


async def test_an_access_token_says_how_its_session_was_opened(account: Account) -> None:
    """RFC 8176, and RFC 9068 section 2.2.1."""
    assert claims_of(account.access_token)["amr"] == ["pwd"]
    assert (await Session.get()).factors == "pwd"


async def test_what_was_shown_is_said_by_all_later_tokens_of_the_session(
    totp: pyotp.TOTP, account: Account, clock: Clock
) -> None:
    login = (await account.login(totp.at(clock()))).json()
    assert claims_of(login["access_token"])["amr"] == ["pwd", "otp"]
    again = (await account.refresh(login["refresh_token"])).json()
    assert claims_of(again["access_token"])["amr"] == ["pwd", "otp"]
    assert "amr" not in claims_of(again["refresh_token"])


async def test_a_recovery_code_is_another_factor_than_the_app(totp: pyotp.TOTP, account: Account) -> None:
    codes = (await post(account, "/auth/2fa/recovery-codes")).json()["codes"]
    login = (await account.login(codes[0])).json()
    assert claims_of(login["access_token"])["amr"] == ["pwd", "recovery"]


async def test_the_session_that_turns_two_factor_on_has_shown_it(account: Account, clock: Clock) -> None:
    totp = await enrol(account)
    assert (await post(account, "/auth/2fa/verify", code=totp.at(clock()))).status_code == 200
    tokens = (await account.refresh()).json()
    assert claims_of(tokens["access_token"])["amr"] == ["pwd", "otp"]


async def test_what_is_shown_later_joins_what_was_shown_first(
    account: Account, auth: Auth, clock: Clock
) -> None:
    opened = await open_session(auth, await User.get(), factors="sso")
    assert isinstance(opened, TokenSet)
    assert claims_of(opened.access_token)["amr"] == ["sso"]
    account.access_token = opened.access_token
    assert (await post(account, "/auth/reauthenticate", password=PASSWORD)).status_code == 200
    tokens = (await account.refresh(opened.refresh_token)).json()
    assert claims_of(tokens["access_token"])["amr"] == ["sso", "pwd"]


# A needed factor is no failure


@on_one_database
@pytest.mark.parametrize("steps", ["one", "two"])
async def test_a_sign_in_with_two_factor_that_ends_well_leaves_no_failure(
    totp: pyotp.TOTP,
    account: Account,
    auth: Auth,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    steps: str,
) -> None:
    auth.events.listeners.append(lambda event: record(auth, event))
    heard: list[SecurityEvent] = []
    auth.on(SecurityEvent)(heard.append)
    with caplog.at_level(logging.INFO, "fastapi_pluggable_auth.security"):
        caplog.clear()
        if steps == "one":
            refused = await account.login()
            assert (refused.status_code, refused.json()["code"]) == (401, "two_factor_required")
            assert (await account.login(totp.at(clock()))).status_code == 200
        else:
            begun = await begin_login(auth, EMAIL, PASSWORD)
            assert isinstance(begun, Challenge)
            await answer_challenge(auth, begun.token, totp.at(clock()))
        assert [record.levelname for record in caplog.records] == ["INFO", "INFO"]
    assert [(event.kind, event.outcome) for event in heard] == [
        ("login_begun", "success"),
        ("login", "success"),
    ]
    audited = await AuditEvent.all().order_by("id")
    assert [(row.kind, row.outcome) for row in audited] == [("login_begun", "success"), ("login", "success")]


async def test_a_reauthentication_without_the_code_is_no_failure_either(
    totp: pyotp.TOTP, account: Account, auth: Auth, clock: Clock
) -> None:
    heard: list[SecurityEvent] = []
    auth.on(SecurityEvent)(heard.append)
    refused = await post(account, "/auth/reauthenticate", password=PASSWORD)
    assert (refused.status_code, refused.json()["code"]) == (401, "two_factor_required")
    body = {"password": PASSWORD, "code": totp.at(clock())}
    assert (await post(account, "/auth/reauthenticate", **body)).status_code == 200
    assert [(event.kind, event.outcome) for event in heard] == [("reauthentication", "success")]


async def test_a_right_password_without_its_code_frees_no_guesses(
    totp: pyotp.TOTP, account: Account, auth: Auth, settings: AuthSettings
) -> None:
    """Else a thief with the password, or its owner, would start the count of wrong ones anew."""
    settings.throttle_free_attempts = 3
    wrong = Account(account.client, account.mailbox, EMAIL, "wrong password")
    for _ in range(3):
        await wrong.login()
        assert (await account.login()).status_code in (401, 429)
    assert (await account.login()).status_code == 429


# Users whom the app recognises itself


async def test_the_app_signs_in_a_user_whom_it_recognises(account: Account, auth: Auth) -> None:
    heard: list[LoggedIn] = []
    auth.on(LoggedIn)(heard.append)
    tokens = await open_session(auth, await User.get(), factors=("sso",))
    assert isinstance(tokens, TokenSet)
    assert (await account.me(tokens.access_token)).status_code == 200
    assert [(event.session_id, event.factors) for event in heard] == [(tokens.session_id, ("sso",))]


@on_one_database
async def test_the_app_passes_the_same_gate(
    totp: pyotp.TOTP, account: Account, auth: Auth, clock: Clock
) -> None:
    before = await Session.all().count()
    begun = await open_session(auth, await User.get(), factors="sso")
    assert isinstance(begun, Challenge)
    assert await Session.all().count() == before
    tokens = await answer_challenge(auth, begun.token, totp.at(clock()))
    assert claims_of(tokens.access_token)["amr"] == ["sso", "otp"]
    strong = await open_session(auth, await User.get(), factors="sso mfa", strong=True)
    assert isinstance(strong, TokenSet)

    user = await User.get()
    await User.all().update(is_verified=False)
    assert await refusal(open_session(auth, await User.get())) == "email_not_verified"
    await User.all().update(is_verified=True)
    await disable_user(auth, user.id)
    for stale in (user, await User.get()):
        assert await refusal(open_session(auth, stale, strong=True)) == "invalid_credentials"
    await User.all().update(is_active=True)
    await require_password_reset(auth, user.id)
    assert await refusal(open_session(auth, await User.get())) == "password_reset_required"

    @auth.on(BeforeLogin)
    def refuse(event: BeforeLogin) -> None:
        raise Refused("Not today.", code="not_today")

    await User.all().update(password_reset_required=False)
    assert await refusal(open_session(auth, await User.get(), strong=True)) == "not_today"


@on_one_database
@pytest.mark.parametrize("names", ["naïve", ('"',), ("two words",), ("x" * 161,)])
async def test_only_names_are_factors(account: Account, auth: Auth, names: Any) -> None:
    with pytest.raises(ValueError, match="name"):
        await open_session(auth, await User.get(), factors=names)


async def test_what_can_be_used_once_leads_to_one_challenge(
    totp: pyotp.TOTP, account: Account, auth: Auth, clock: Clock
) -> None:
    """Else a mailed code, or what a provider has said, would be good for as many tries as one likes."""
    user = await User.get()
    token = await pending.begin(auth, "mailed", {}, user_id=user.id, lifetime=timedelta(minutes=5))
    found = await pending.find(auth, "mailed", Plaintext(token))
    assert found is not None
    proof = Proof(user=user, factors=("mail",), spends=partial(pending.take, pending=found[0]))
    before = await Pending.all().count()
    challenge = await begin_challenge(auth, proof)
    assert await refusal(begin_challenge(auth, proof)) == "invalid_credentials"
    assert await Pending.all().count() == before + 1
    tokens = await answer_challenge(auth, challenge.token, totp.at(clock()))
    assert claims_of(tokens.access_token)["amr"] == ["mail", "otp"]


# No sequence of methods gives a session fewer factors than its user must show


PICK = st.integers(0, 20)
CODES = st.sampled_from(["none", "wrong", "app", "recovery", "passkey"])
FLAGS = st.sampled_from([ORDINARY, ORDINARY & ~VERIFIED])
NEWEST = st.sampled_from([-1, -1, -2, 3])
SECOND = {"otp", "recovery", "passkey"}
TRUSTED = timedelta(minutes=5)


class Ways(RuleBasedStateMachine):
    """One user and every way of signing in, of showing a factor, and of changing what has to be shown."""

    world: ClassVar[World]

    @initialize()
    def begin(self) -> None:
        world = self.world
        world.users += 1
        self.email, self.password = f"u{world.users}@example.com", PASSWORD
        user = {"email": self.email, "hashed_password": world.hashed, "is_verified": True}
        self.user_id = world.run(lambda: User.create(**user)).id
        self.tokens: list[tuple[str, str]] = []
        self.challenges: list[str] = []
        self.secret, self.codes = "", list[str]()
        self.keys: list[tuple[Forger, str, bool]] = []
        self.alone: set[str] = set()
        self.strong: set[str] = set()
        self.device: str | None = None
        self.trusted_at: datetime | None = None
        self.signs_in(code="none")

    def ask(
        self, path: str, body: dict[str, Any] | None = None, by: int | None = None, method: str = "POST"
    ) -> Any:
        headers = {}
        if by is not None:
            headers["Authorization"] = f"Bearer {self.tokens[by % len(self.tokens)][0]}"
        send = self.world.client.request
        answer = self.world.run(lambda: send(method, path, json=body, headers=headers))
        assert answer.status_code < 500, answer.text
        self.status = answer.status_code
        found = answer.json() if answer.content else {}
        if "refresh_token" in found:
            self.tokens.append((found["access_token"], found["refresh_token"]))
        return found

    def user(self) -> User:
        return self.world.run(lambda: User.get(id=self.user_id))

    def code(self, kind: str) -> dict[str, Any]:
        """The field of a body."""
        match kind:
            case "passkey" if self.keys:
                body = {"email": self.email, "password": self.password}
                options = self.ask("/auth/login", body).get("options", {})
                if "passkey" in options:
                    return {"passkey": self.keys[-1][0].get(options["passkey"])}
            case "app" if self.secret:
                return {"code": pyotp.TOTP(self.secret).at(self.world.clock())}
            case "recovery" if self.codes:
                return {"code": self.codes[-1]}
            case "wrong":
                return {"code": "000000"}
        return {}

    @rule(code=CODES)
    def signs_in(self, code: str) -> None:
        self.ask("/auth/login", {"email": self.email, "password": self.password, **self.code(code)})

    @rule(code=CODES, trust=st.booleans())
    def signs_in_on_a_device(self, code: str, trust: bool) -> None:
        """Where none asks for the code is one that was trusted after one, and not too long ago."""
        self._log_in_on_it(code, trust)
        self._log_in_on_it("none", False)

    def _log_in_on_it(self, code: str, trust: bool) -> None:
        body = {"email": self.email, "password": self.password, "device": self.device, "trust_device": trust}
        found, now = self.ask("/auth/login", {**body, **self.code(code)}), self.world.clock()
        if self.status != 200:
            return
        shown, known = set(claims_of(found["access_token"])["amr"]), found["device"] == self.device
        self.device = found["device"]
        if "device" in shown:
            assert known
            assert self.trusted_at is not None
            assert now - self.trusted_at < TRUSTED
        elif trust and shown & SECOND:
            self.trusted_at = now
        elif not known:
            self.trusted_at = None

    @rule(code=CODES)
    def signs_in_by_mail(self, code: str) -> None:
        challenge = self.ask("/auth/email-sign-in", {"email": self.email})["challenge"]
        keys = key_set(self.world.auth.settings)
        body = {"challenge": challenge, "code": code_for(keys, id_of("email_sign_in", challenge))}
        given = self.code(code)
        second = {"second_code": given["code"]} if "code" in given else given
        self.ask("/auth/email-sign-in/code", body | second)

    @rule(strong=st.booleans())
    def is_signed_in_by_the_app(self, strong: bool) -> None:
        user = self.user()
        opened = self.world.run(lambda: open_session(self.world.auth, user, factors="sso", strong=strong))
        if isinstance(opened, Challenge):
            self.challenges.append(opened.token)
            return
        self.tokens.append((opened.access_token, opened.refresh_token))
        if strong:
            self.strong.add(str(opened.session_id))

    @rule()
    def begins_in_two_steps(self) -> None:
        begun = self.world.run(lambda: begin_login(self.world.auth, self.email, self.password))
        if isinstance(begun, Challenge):
            self.challenges.append(begun.token)

    @rule(which=PICK, code=CODES)
    def answers(self, which: int, code: str) -> None:
        if not self.challenges:
            return
        challenge = self.challenges[which % len(self.challenges)]
        field = self.code(code)
        answer = json.dumps(field["passkey"]) if "passkey" in field else field.get("code", "")

        async def work() -> None:
            try:
                tokens = await answer_challenge(self.world.auth, challenge, answer)
                self.tokens.append((tokens.access_token, tokens.refresh_token))
            except AuthError:
                pass

        self.world.run(work)

    @rule(by=PICK, code=CODES)
    def shows_it_again(self, by: int, code: str) -> None:
        self.ask("/auth/reauthenticate", {"password": self.password, **self.code(code)}, by)

    @rule(by=PICK)
    def enrols(self, by: int) -> None:
        begun = self.ask("/auth/2fa/enable", by=by)
        if self.status == 200:
            self.secret = pyotp.parse_uri(begun["otpauth_uri"]).secret

    @rule(by=PICK, code=CODES)
    def confirms(self, by: int, code: str) -> None:
        given = {} if code == "passkey" else self.code(code)
        self.ask("/auth/2fa/verify", given or {"code": "000000"}, by)

    @rule(by=PICK)
    def takes_recovery_codes(self, by: int) -> None:
        self.codes = self.ask("/auth/2fa/recovery-codes", by=by).get("codes", self.codes)

    @rule(by=PICK)
    def switches_it_off(self, by: int) -> None:
        self.ask("/account/2fa/disable", by=by)

    @rule(by=NEWEST, kind=st.sampled_from(["passkey", "second_factor", "upgrade"]), flags=FLAGS)
    def adds_a_passkey(self, by: int, kind: str, flags: int) -> None:
        asked = {} if kind == "passkey" else {kind: True}
        options = self.ask("/account/passkeys/options", asked, by)
        if self.status != 200:
            return
        key = Forger(flags=flags)
        added = self.ask("/account/passkeys", {"credential": key.create(options)}, by)
        if self.status == 201:
            assert kind != "passkey" or flags & VERIFIED
            self.keys.append((key, added["id"], kind != "second_factor"))

    @rule(which=PICK, flags=FLAGS)
    def signs_in_with_a_passkey(self, which: int, flags: int) -> None:
        if not self.keys:
            return
        key, id, alone = self.keys[which % len(self.keys)]
        key.flags = flags
        row = self.world.run(lambda: Passkey.get_or_none(id=id))
        options = self.ask("/auth/passkey/options")
        answer = self.ask("/auth/passkey/login", {"credential": key.get(options)})
        if self.status == 200:
            assert alone
            assert flags & VERIFIED
            assert row is not None
            assert row.held_since is None
            self.alone.add(claims_of(answer["access_token"])["sid"])

    @rule(by=PICK, which=PICK, flags=FLAGS)
    def shows_a_passkey_again(self, by: int, which: int, flags: int) -> None:
        options = self.ask("/auth/passkey/reauthenticate/options", by=by)
        if self.status == 200 and self.keys:
            key, _, alone = self.keys[which % len(self.keys)]
            key.flags = flags
            self.ask("/auth/passkey/reauthenticate", {"credential": key.get(options)}, by)
            assert self.status != 200 or (alone and flags & VERIFIED)

    @rule(by=PICK, which=PICK, keep=st.booleans())
    def keeps_or_removes_a_passkey(self, by: int, which: int, keep: bool) -> None:
        if self.keys:
            path = f"/account/passkeys/{self.keys[which % len(self.keys)][1]}"
            body = {"keep": True} if keep else None
            self.ask(path, body, by, method="PATCH" if keep else "DELETE")

    @rule(by=PICK)
    def changes_the_password(self, by: int) -> None:
        new = f"{PASSWORD} {self.world.clock().timestamp()}"
        self.ask("/account/change-password", {"old_password": self.password, "new_password": new}, by)
        if self.status == 204:
            self.password = new

    @rule()
    def resets_it(self) -> None:
        self.ask("/auth/forgot-password", {"email": self.email})
        mails: Any = self.world.auth.mailer.provider
        (token,) = [line.rpartition("/")[2] for line in mails.mails[-1].body.split() if "/reset-" in line]
        new = f"{PASSWORD} {self.world.clock().timestamp()}"
        self.ask(f"/auth/reset-password/{token}", {"new_password": new})
        if self.status == 200:
            self.password = new

    @rule(by=PICK)
    def signs_out(self, by: int) -> None:
        self.ask(("/auth/logout", "/account/logout-others")[by % 2], by=by)

    @rule()
    def is_signed_out(self) -> None:
        self.world.run(lambda: end_sessions(self.world.auth, self.user_id))

    @rule(which=PICK)
    def refreshes(self, which: int) -> None:
        self.ask("/auth/refresh", {"token": self.tokens[which % len(self.tokens)][1]})

    @rule(seconds=st.sampled_from([31, 40, 400]))
    def waits(self, seconds: int) -> None:
        self.world.clock.advance(seconds=seconds)

    @invariant()
    def no_session_has_fewer_factors_than_its_user_must_show(self) -> None:
        if not hasattr(self, "user_id"):
            return
        user = self.user()
        sessions = self.world.run(lambda: Session.filter(user_id=self.user_id, revoked_at=None))
        for session in sessions:
            shown = set(session.factors.split())
            assert shown & {"pwd", "sso", "mail"} or str(session.id) in self.alone
            asked = user.two_factor_active or "security_key" in user.second_factors
            if asked and str(session.id) not in self.strong:
                assert shown & (SECOND | {"device"}), shown

    @invariant()
    def the_account_says_which_passkeys_there_are(self) -> None:
        if not hasattr(self, "user_id"):
            return
        rows = self.world.run(lambda: Passkey.filter(user_id=self.user_id))
        names = {"passkey"} if rows else set()
        names |= {"security_key"} if not all(row.verifies_user for row in rows) else set()
        assert self.user().second_factors == names

    @invariant()
    def no_token_says_more_than_its_session_has_shown(self) -> None:
        if not hasattr(self, "user_id") or not self.tokens:
            return
        claims = claims_of(self.tokens[-1][0])
        session = self.world.run(lambda: Session.get(id=claims["sid"]))
        assert set(claims["amr"]) <= set(session.factors.split())


def test_no_sequence_of_methods_gives_a_session_fewer_factors_than_its_user_must_show(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging.getLogger("fastapi_pluggable_auth.security"), "disabled", True)
    world = World(
        throttle_daily_limit=10**6,
        trusted_device_ttl=TRUSTED,
        features=[Passkeys(), EmailSignIn()],
    )
    monkeypatch.setattr(Ways, "world", world, raising=False)
    try:
        run_state_machine_as_test(  # type: ignore[no-untyped-call]
            Ways,
            settings=hypothesis_settings(
                max_examples=30,
                stateful_step_count=50,
                derandomize=True,
                database=None,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        world.close()
