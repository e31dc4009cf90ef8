"""Generated input: requests from the app's own OpenAPI document, and arguments for the pure functions."""

from __future__ import annotations

import subprocess
import sys
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from uuid import uuid4

import pyotp
import pytest
from fastapi import FastAPI
from hypothesis import assume, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from tortoise.contrib.fastapi import RegisterTortoise

from fastapi_pluggable_auth import AuthError, AuthSettings, include_auth
from fastapi_pluggable_auth.email.message import build_message
from fastapi_pluggable_auth.email.provider import MailError
from fastapi_pluggable_auth.email.tokens import LinkSigner, Purpose
from fastapi_pluggable_auth.features import Administration, AuditLog, Passkeys, PersonalTokens
from fastapi_pluggable_auth.flows.login import CHALLENGE
from fastapi_pluggable_auth.models import User
from fastapi_pluggable_auth.security.addresses import normalise_email
from fastapi_pluggable_auth.security.jwt import ACCESS, REFRESH, TokenSigner
from fastapi_pluggable_auth.security.proxies import client_address, counted_network
from fastapi_pluggable_auth.security.recovery import (
    generate_recovery_codes,
    is_recovery_code,
    recovery_digest,
)
from fastapi_pluggable_auth.security.totp import generate_totp_secret, matching_step, totp_uri

from .conftest import SECRET, Mailbox
from .live import serving

SETTINGS = AuthSettings(_env_file=None, jwt_secret=SECRET)
SIGNER = TokenSigner(SETTINGS)
LINKS = LinkSigner(SETTINGS)
NOW = datetime(2026, 11, 23, 12, 0, 1, tzinfo=UTC)
USER = str(uuid4())
STEP = timedelta(seconds=30)
SECRET_OF_TOTP = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"

# The same examples in every run, and no file of them is kept.
bounded = hypothesis_settings(max_examples=150, derandomize=True, database=None, deadline=None)

any_text = st.text(st.characters(), max_size=80)
"""With lone surrogates and control characters."""


# --- the app ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "phases", ["examples,fuzzing", pytest.param("coverage,stateful", marks=pytest.mark.full)]
)
def test_no_generated_request_breaks_the_contract_of_the_openapi_document(
    phases: str, tmp_path: Path, settings: AuthSettings, mailbox: Mailbox
) -> None:
    """All checks of schemathesis, over real HTTP."""
    tokens: list[str] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> Any:
        models = {"models": ["fastapi_pluggable_auth.models"]}
        url = f"sqlite://{tmp_path / 'fuzzing.sqlite3'}"
        async with RegisterTortoise(app, db_url=url, modules=models, generate_schemas=True):
            user = await User.create(
                email="ada@example.com", hashed_password="none", is_verified=True, is_superuser=True
            )
            # Without a session, which the requests would end.
            tokens.append(app.state.pluggable_auth.signer.access_token(user.id))
            yield

    app = FastAPI(lifespan=lifespan)
    personal_tokens = PersonalTokens(scopes={"notes:read": "Read your notes"})
    include_auth(app, settings=settings, features=[Administration(), personal_tokens, AuditLog(), Passkeys()])
    with serving(app) as base:
        command = [
            Path(sys.executable).parent / "schemathesis",
            f"--config-file={Path(__file__).parent / 'schemathesis.toml'}",
            "run",
            f"{base}/openapi.json",
            f"--header=Authorization: Bearer {tokens[0]}",
            "--checks=all",
            f"--phases={phases}",
            "--max-examples=4",
            "--seed=1",
            "--no-color",
        ]
        result = subprocess.run(command, capture_output=True, text=True, timeout=400, cwd=tmp_path)
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]
    assert phases.rpartition(",")[2].capitalize() in result.stdout


# --- tokens ----------------------------------------------------------------------------------------------


@bounded
@given(subject=st.uuids(), typ=st.sampled_from([ACCESS, REFRESH, CHALLENGE, "verify"]), other=any_text)
def test_a_token_is_good_for_its_purpose_alone(subject: Any, typ: str, other: str) -> None:
    """A-56."""
    moment = datetime.now(UTC)
    token = SIGNER.sign(typ, subject, issued_at=moment, expires_at=moment + timedelta(hours=1))
    assert SIGNER.verify(token, typ)["sub"] == str(subject)
    assume(other != typ)
    with pytest.raises(AuthError):
        SIGNER.verify(token, other)


@bounded
@given(text=st.text(st.characters(), max_size=400) | st.from_regex(r"[\w-]{0,40}(\.[\w-]{0,40}){1,3}"))
@example("a.b.c")
@example("..")
def test_no_text_is_a_token_but_a_signed_one(text: str) -> None:
    for typ in (ACCESS, REFRESH):
        with pytest.raises(AuthError):
            SIGNER.verify(text, typ)
    for purpose in Purpose:
        with pytest.raises(AuthError):
            LINKS.read(purpose, text)


@bounded
@given(data=st.data())
def test_a_token_that_was_changed_anywhere_is_refused(data: st.DataObject) -> None:
    token = SIGNER.access_token(USER)
    # The last character of the signature carries unused bits, which may differ.
    place = data.draw(st.integers(0, len(token) - 2))
    character = data.draw(st.sampled_from("ABCabc019-_.=+/ \n\0é"))
    assume(character != token[place])
    with pytest.raises(AuthError):
        SIGNER.verify(token[:place] + character + token[place + 1 :], ACCESS)


@bounded
@given(
    made=st.sampled_from(Purpose),
    read=st.sampled_from(Purpose),
    state=st.none() | st.binary(min_size=16, max_size=16),
)
def test_a_link_serves_one_purpose(made: Purpose, read: Purpose, state: bytes | None) -> None:
    token = LINKS.generate(made, USER, state)
    if made is read:
        assert (str(LINKS.read(read, token).user_id), LINKS.read(read, token).state) == (USER, state)
    else:
        with pytest.raises(AuthError):
            LINKS.read(read, token)


@bounded
@given(data=st.data())
def test_one_other_character_makes_a_link_worthless(data: Any) -> None:
    """The last one too, which has bits to spare."""
    token = LINKS.generate(Purpose.RESET, USER)
    place = data.draw(st.integers(0, len(token) - 1))
    character = data.draw(st.sampled_from("ABQRgwabc019-_.=+/ \n\0é"))
    assume(character != token[place])
    with pytest.raises(AuthError):
        LINKS.read(Purpose.RESET, token[:place] + character + token[place + 1 :])


# --- addresses -------------------------------------------------------------------------------------------


@bounded
@given(text=any_text | st.emails() | st.builds("{}@{}".format, any_text, any_text))
@example("a@example.com\u3002evil.com")
@example("ﬀ@example.com")
def test_an_address_has_one_normal_form_or_is_none(text: str) -> None:
    """R-49: nothing but `ValueError`, and what is accepted is one printable address."""
    try:
        address = normalise_email(text)
    except ValueError:
        return
    assert normalise_email(address) == address == address.lower()
    assert address.count("@") == 1
    assert address.isprintable()
    assert len(address.encode()) <= 254


@bounded
@given(peer=any_text | st.ip_addresses().map(str), header=any_text | st.ip_addresses().map(str))
def test_any_header_gives_a_client_or_the_peer(peer: str, header: str) -> None:
    trusted = AuthSettings(_env_file=None, trusted_proxies="10.0.0.0/8").trusted_proxies  # type: ignore[arg-type]  # text of an environment
    counted_network(client_address(peer, [header], trusted))
    counted_network(client_address("10.0.0.1", [header, header], trusted))


# --- second factor ---------------------------------------------------------------------------------------


@bounded
@given(steps=st.integers(-4, 4), last=st.none() | st.integers(-4, 4))
def test_a_code_counts_one_step_around_now_and_after_the_last_one(steps: int, last: int | None) -> None:
    """A-69, A-70."""
    secret = generate_totp_secret()
    current = int(NOW.timestamp()) // 30
    code = pyotp.TOTP(secret).at(NOW + steps * STEP)
    spent = None if last is None else current + last
    accepted = matching_step(secret, code, NOW, spent)
    # By chance, a code of six digits may be that of another step as well.
    others = {
        pyotp.TOTP(secret).at(NOW + timedelta(seconds=30 * step)) for step in (-1, 0, 1) if step != steps
    }
    assume(code not in others)
    allowed = abs(steps) <= 1 and (last is None or steps > last)
    assert accepted == (current + steps if allowed else None)


@bounded
@given(code=any_text)
@example("１２３４５６")
@example("123456\n")
def test_any_text_is_a_code_or_none(code: str) -> None:
    secret = generate_totp_secret()
    if matching_step(secret, code, NOW, None) is not None:
        assert code.isascii()
        assert len(code) == 6
    is_recovery_code(code)


@bounded
@given(
    label=st.text(st.characters(codec="utf-8"), min_size=1, max_size=60),
    issuer=st.text("aé:&%/? #", min_size=1),
)
def test_any_label_survives_the_authenticator_address(label: str, issuer: str) -> None:
    """A-66."""
    assume(label.strip() and issuer.strip())
    uri = urlsplit(totp_uri(SECRET_OF_TOTP, label, issuer))
    assert (uri.scheme, uri.netloc) == ("otpauth", "totp")
    assert parse_qs(uri.query)["secret"] == [SECRET_OF_TOTP]
    assert parse_qs(uri.query)["issuer"] == [issuer]
    assert unquote(uri.path).endswith(label)


@bounded
@given(blanks=st.lists(st.sampled_from(["", "-", " "]), min_size=5, max_size=5), upper=st.booleans())
def test_a_recovery_code_has_many_spellings_and_one_digest(blanks: list[str], upper: bool) -> None:
    code = generate_recovery_codes()[0]
    spelled = "".join(part + blank for part, blank in zip(code.split("-"), [*blanks, ""], strict=True))
    spelled = spelled.upper() if upper else spelled
    assert is_recovery_code(spelled)
    assert recovery_digest(spelled) == recovery_digest(code)


# --- mail ------------------------------------------------------------------------------------------------


@bounded
@given(to=any_text | st.emails(), subject=any_text, body=any_text)
@example("ada@example.com", "one\r\nBcc: eve@example.com", "text")
@example("ada@example.com, eve@example.com", "two", "text")
@example("ada@example.com", "=?utf-8?q?=0D=0ABcc:_eve@example.com?=", "text")
def test_a_mail_has_one_recipient_and_no_header_of_a_stranger(to: str, subject: str, body: str) -> None:
    """R-46."""
    try:
        message = build_message(SETTINGS, to, subject, body, None)
    except (ValueError, MailError):
        return
    read = message_from_bytes(message.as_bytes(), policy=policy.default)
    headers = [name.lower() for name, _ in read.items()]
    assert (headers.count("to"), headers.count("subject")) == (1, 1)
    assert not {"bcc", "cc", "reply-to"} & set(headers)
    assert len(read["To"].addresses) == 1
