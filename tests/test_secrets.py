"""Secrets: what others may know signs nothing, and no mistake shows one."""

from __future__ import annotations

import json
import logging
import re
import secrets
import string
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from fastapi import FastAPI
from jose import JWTError, jwt
from pydantic import ValidationError

from fastapi_pluggable_auth import Auth, AuthSettings, InsecureSettingsError, config, include_auth
from fastapi_pluggable_auth.cli import main
from fastapi_pluggable_auth.flows.devices import Device
from fastapi_pluggable_auth.flows.login import Challenge, open_session
from fastapi_pluggable_auth.flows.session_tokens import TokenSet
from fastapi_pluggable_auth.models import User
from fastapi_pluggable_auth.security import jwt as plain_helpers
from fastapi_pluggable_auth.security.key_rotation import rotated_keys
from fastapi_pluggable_auth.security.keys import KeyConfigurationError, SignatureError, key_problems, key_set
from fastapi_pluggable_auth.security.strength import is_published, weakness

from .conftest import SECRET, Account
from .test_keys import EC, RSA, pem_of

# What is tested here is the same on every database.
DIALECTS = ("sqlite",)

ROOT = Path(__file__).parent.parent
PUBLIC = "https://app.example.com"
GUESSABLE = (
    *("x" * 32, "ab" * 16, "0123456789abcdef" * 3, "12345678" * 4, "password" * 4, "changeme" * 5),
    *("abcdefghijklmnopqrstuvwxyz012345", "zyxwvutsrqponmlkjihgfedcba9876543210"),
    *("a1b2c3d4e5f6g7h8i9j0k1l2m3n4o5p6", "0" * 31 + "1", "passwordpasswordpasswordpassword1"),
    *("my-super-secret-key-that-is-long", "qwertyuiopasdfghjklzxcvbnm1234567890", "\0" * 32),
    "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7" * 2,
)
PUBLISHED = (
    *("CHANGE_ME", "change_me", "Change-Me", "changeme", " CHANGE ME ", "secret", "your-secret-key", ""),
    *("paste-the-output-of-openssl-rand-base64-48", "PASTE_THE_OUTPUT_OF_OPENSSL_RAND_BASE64_48"),
    *(
        '"CHANGE_ME"',
        "'change_me'",
        "<CHANGE_ME>",
        "\uff23\uff28\uff21\uff2e\uff27\uff25\uff3f\uff2d\uff25",
        "\ufeff",
        "\u3000",
    ),
    *("your-256-bit-secret", "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7"),
)


def settings_with(**values: Any) -> AuthSettings:
    return AuthSettings(_env_file=None, **{"jwt_secret": SECRET, **values})


def forged(secret: str, user_id: str, base_url: str = PUBLIC) -> str:
    """An access token that anybody can make who knows the secret."""
    known = settings_with(public_base_url="http://localhost")
    known.jwt_issuer = base_url
    claims = jwt.get_unverified_claims(Auth(known).signer.access_token(UUID(user_id)))
    return str(jwt.encode(claims, secret, algorithm="HS256", headers={"typ": plain_helpers.ACCESS}))


def placeholders() -> Iterator[str]:
    """What our pages, examples and files of settings have in the place of a secret."""
    names = "JWT_SECRET|JWT_PREVIOUS_KEYS|TOTP_ENCRYPTION_KEY|TOTP_PREVIOUS_KEYS"
    given = re.compile(rf"(?:{names})=([^\"'$<>)\s&|]+)")
    in_code = re.compile(rf"""(?:{names.lower()})=["']([^"']+)""")
    table = re.compile(rf"\| `(?:{names})` \| `([^`]+)`")
    files = [*ROOT.glob("*.md"), ROOT / ".env.example"]
    for folder in ("docs", "examples"):
        files += [path for path in (ROOT / folder).rglob("*") if path.is_file()]
    for path in files:
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError:
            continue
        yield from (found for pattern in (given, in_code, table) for found in pattern.findall(text))


def test_every_placeholder_of_our_pages_is_known_as_one() -> None:
    found = {each for each in placeholders() if each not in ("...", ".*")}
    assert {"CHANGE_ME", "paste-the-output-of-openssl-rand-base64-48"} <= found
    assert {"a secret of at least 32 random bytes"} <= found
    assert [each for each in found if weakness(each) is None] == []
    assert [each for each in found if "paste" in each and not is_published(each)] == []


@pytest.mark.parametrize("secret", ["", " " * 40, "\u200b" * 40, "\0" * 40, " \u200b\t\0" * 12])
def test_a_secret_of_nothing_that_can_be_seen_is_none(secret: str) -> None:
    assert is_published(secret)
    with pytest.raises(InsecureSettingsError):
        include_auth(
            FastAPI(), settings=settings_with(jwt_secret=secret, public_base_url="https://a.example.com")
        )


@pytest.mark.parametrize(
    "setting", ["jwt_secret", "jwt_previous_keys", "totp_encryption_key", "totp_previous_keys"]
)
@pytest.mark.parametrize("secret", [*PUBLISHED, *GUESSABLE, "supersecret"])
def test_no_secret_that_can_be_guessed_is_taken_on_a_public_address(secret: str, setting: str) -> None:
    """A-58: whichever setting names it, signing, verifying or sealing."""
    if setting == "totp_encryption_key" and len(secret) < 32:
        with pytest.raises(ValidationError, match="32 bytes"):
            settings_with(totp_encryption_key=secret)
        return
    value: Any = secret if not setting.endswith("keys") else [secrets.token_hex(16), secret]
    for address in (
        PUBLIC,
        "http://web:8000",
        "https://localhost.example.com",
        "https://localhost@evil.example",
    ):
        weak = settings_with(**{setting: value, "public_base_url": address})
        with pytest.raises(InsecureSettingsError, match=setting.upper()) as caught:
            include_auth(FastAPI(), settings=weak)
        assert len(secret) < 8 or secret not in str(caught.value)
        if setting.startswith("jwt"):
            with pytest.raises(KeyConfigurationError, match=setting.upper()):
                Auth(weak).signer.access_token(uuid4())


@pytest.mark.parametrize(
    "make",
    [
        lambda: secrets.token_hex(16),
        lambda: secrets.token_hex(32),
        lambda: secrets.token_urlsafe(24),
        lambda: secrets.token_urlsafe(48),
        lambda: "".join(secrets.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(32)),
        lambda: str(uuid4()),
        lambda: "".join(secrets.choice(string.punctuation) for _ in range(32)),
    ],
)
def test_no_random_secret_is_taken_for_one_that_can_be_guessed(make: Callable[[], str]) -> None:
    assert [secret for secret in (make() for _ in range(2000)) if weakness(secret) is not None] == []


@pytest.mark.parametrize(
    "secret",
    [
        "correct horse battery staple, and then some more words",
        "test-secret-that-is-long-enough-for-hs256-tests",
        "the-quick-brown-fox-jumps-over-the-lazy-dog-42",
    ],
)
def test_a_long_sentence_of_ones_own_starts_an_app(secret: str) -> None:
    """An app that ran with one before must not stop with an upgrade."""
    include_auth(FastAPI(), settings=settings_with(jwt_secret=secret, public_base_url=PUBLIC))


@pytest.mark.parametrize("secret", ["CHANGE_ME", "change_me", "paste-the-output-of-openssl-rand-base64-48"])
async def test_on_this_machine_a_placeholder_signs_nothing_and_a_random_secret_does(
    secret: str, account: Account, settings: AuthSettings, caplog: pytest.LogCaptureFixture
) -> None:
    user_id = (await account.me()).json()["id"]
    settings.jwt_secret, settings.jwt_previous_keys = secret, ["secret", "CHANGE_ME", SECRET]
    include_auth(FastAPI(), settings=settings)
    (warning,) = [line for line in caplog.messages if line.startswith("AUTH_JWT_SECRET")]
    assert "restart or a second worker refuses its tokens" in warning
    assert len([line for line in caplog.messages if line.startswith("AUTH_JWT_PREVIOUS_KEYS")]) == 2
    assert settings.jwt_secret == secret
    assert (await account.me()).status_code == 200  # of the previous key that is good
    assert (await account.login()).status_code == 200
    assert (await account.me()).status_code == 200
    for guess in (secret, "secret", "CHANGE_ME", settings.jwt_secret, ""):
        token = forged(guess or "CHANGE_ME", user_id, settings.issuer)
        for host in ("testserver", "localhost:8000", "app.example.com"):
            answer = await account.client.get(
                "/auth/me", headers={"Authorization": f"Bearer {token}", "Host": host}
            )
            assert answer.status_code == 401


def test_the_plain_helpers_sign_with_the_secret_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config.settings, "jwt_secret", "CHANGE_ME")
    app = FastAPI()
    auth = include_auth(app, settings=settings_with(jwt_secret="change_me"))
    token = plain_helpers.create_access_token(uuid4())
    assert auth.signer.verify(token, plain_helpers.ACCESS)["jti"]
    for secret in ("CHANGE_ME", "change_me"):
        with pytest.raises(JWTError, match="Signature"):
            jwt.decode(token, secret, algorithms=["HS256"], options={"verify_aud": False})


def test_each_process_has_a_secret_of_its_own() -> None:
    code = (
        "from fastapi_pluggable_auth import AuthSettings;"
        "from fastapi_pluggable_auth.security.keys import key_set;"
        "print(key_set(AuthSettings(_env_file=None, jwt_secret='CHANGE_ME')).signing_id)"
    )
    run = [sys.executable, "-c", code]
    ids = {subprocess.run(run, capture_output=True, text=True, check=True).stdout for _ in range(2)}
    assert len(ids) == 2


@pytest.mark.parametrize(
    "address", ["http://localhost:8000", "http://127.0.0.1", "http://test", "http://testserver"]
)
def test_tests_with_a_short_secret_of_their_own_go_on(
    address: str, settings: AuthSettings, caplog: pytest.LogCaptureFixture
) -> None:
    """As those of apps of 0.1 have, which sign with it by themselves too."""
    settings.jwt_secret, settings.public_base_url = "supersecret", address
    auth = include_auth(FastAPI(), settings=settings)
    assert "JWT_SECRET is shorter than 32 bytes" in caplog.text
    token = auth.signer.access_token(uuid4())
    assert jwt.decode(token, "supersecret", algorithms=["HS256"], audience=address)["iss"] == address


async def test_a_secret_that_is_made_weak_while_the_app_runs_signs_nothing(
    client: httpx.AsyncClient, settings: AuthSettings
) -> None:
    settings.public_base_url, settings.jwt_secret = PUBLIC, "CHANGE_ME"
    with pytest.raises(KeyConfigurationError, match="JWT_SECRET"):
        await client.get("/auth/me", headers={"Authorization": f"Bearer {forged('CHANGE_ME', str(uuid4()))}"})


def test_a_rotation_keeps_no_secret_that_others_may_know() -> None:
    weak = settings_with(jwt_secret="x" * 32, jwt_previous_keys=["secret", SECRET], public_base_url=PUBLIC)
    assert rotated_keys(weak, keep=9)["JWT_PREVIOUS_KEYS"] == SECRET


@pytest.mark.parametrize("secret", [None, "CHANGE_ME"])
@pytest.mark.parametrize("address", ["http://localhost:8000", PUBLIC])
def test_a_command_that_signs_for_the_app_refuses_without_its_key(
    secret: str | None,
    address: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PUBLIC_BASE_URL", address)
    monkeypatch.delenv("JWT_SECRET", raising=False)
    if secret is not None:
        monkeypatch.setenv("JWT_SECRET", secret)
    assert main(["mail", "run", "--database-url", f"sqlite://{tmp_path / 'x.sqlite3'}"]) == 1
    assert "JWT_SECRET is not set, or is a placeholder" in capsys.readouterr().err
    assert [*tmp_path.iterdir()] == []


# --- no mistake shows a secret ---------------------------------------------------------------------------

MATERIAL = "Zq8vKe3nYw6tRb1x"
"""A part of each secret below."""

MISTAKES: list[dict[str, Any]] = [
    *(
        {name: wrong}
        for name in (
            "jwt_secret",
            "jwt_private_key",
            "totp_encryption_key",
            "smtp_password",
            "sendgrid_api_key",
        )
        for wrong in ([MATERIAL], {MATERIAL: MATERIAL}, (MATERIAL,), MATERIAL.encode() + b"\xff")
    ),
    *(
        {name: wrong}
        for name in ("jwt_previous_keys", "totp_previous_keys")
        for wrong in (
            {MATERIAL: 1},
            [1, MATERIAL],
            MATERIAL.encode(),
            [[MATERIAL]],
            [MATERIAL.encode() + b"\xff"],
        )
    ),
    *({name: MATERIAL * 2 + "\udcff"} for name in ("jwt_secret", "totp_encryption_key")),
    *({name: [MATERIAL * 2 + "\udcff"]} for name in ("jwt_previous_keys", "totp_previous_keys")),
    {"totp_encryption_key": MATERIAL},
    {"rate_limit_storage": [f"redis://:{MATERIAL}@localhost"]},
    {"smtp_port": "none", "smtp_password": MATERIAL},
]

UNFIT: list[dict[str, Any]] = [
    {"jwt_previous_keys": MATERIAL, "public_base_url": PUBLIC},
    {"jwt_secret": MATERIAL, "public_base_url": PUBLIC},
    {"totp_encryption_key": MATERIAL * 2, "public_base_url": PUBLIC},
    {"totp_previous_keys": [MATERIAL], "public_base_url": PUBLIC},
    {"jwt_secret": f"-----BEGIN PUBLIC KEY-----\n{MATERIAL}\n-----END PUBLIC KEY-----"},
    *(
        {"jwt_algorithm": algorithm, "jwt_private_key": key}
        for algorithm in ("RS256", "ES256")
        for key in (
            MATERIAL,
            f"/{MATERIAL}",
            f"{MATERIAL}\0",
            f"-----BEGIN PRIVATE KEY-----\n{MATERIAL}\n-----END PRIVATE KEY-----",
            f"-----BEGIN X-----{MATERIAL}",
            pem_of(RSA).replace("\n", f"\n{MATERIAL}\n", 3),
        )
    ),
    {"jwt_algorithm": "ES256", "jwt_private_key": pem_of(EC), "jwt_previous_keys": [MATERIAL]},
    {"jwt_algorithm": "ES256", "jwt_private_key": pem_of(EC), "jwt_previous_keys": f"-----BEGIN {MATERIAL}"},
    {"rate_limits": "recommended", "rate_limit_storage": f"redis://:{MATERIAL}@localhost:x{MATERIAL}"},
]


def all_that_is_told(error: BaseException) -> str:
    """What a log, a terminal and an error tracker get: every text, and the variables of our own frames."""
    told = ["".join(traceback.format_exception(error)), repr(error), str(error)]
    if isinstance(error, ValidationError):
        told += [str(error.errors()), error.json()]
    seen: list[BaseException] = [error]
    while (cause := seen[-1].__cause__ or seen[-1].__context__) is not None:
        seen.append(cause)
    for each in seen:
        told.append(repr(each))
        for frame, _ in traceback.walk_tb(each.__traceback__):
            if "fastapi_pluggable_auth" in frame.f_code.co_filename:
                told.append(repr(frame.f_locals))
    return "\n".join(told)


@pytest.mark.parametrize("values", MISTAKES, ids=lambda values: "-".join(values))
@pytest.mark.parametrize("how", ["constructor", "assignment", "validation"])
def test_no_mistake_in_a_setting_shows_a_secret(values: dict[str, Any], how: str) -> None:
    """ASVS 13.3.1, 16.5.1: the error names the setting."""
    fresh = settings_with()

    def assign() -> None:
        for name, value in values.items():
            setattr(fresh, name, value)

    ways: dict[str, Callable[[], object]] = {
        "constructor": lambda: AuthSettings(_env_file=None, **values),
        "validation": lambda: AuthSettings.model_validate(values),
        "assignment": assign,
    }
    with pytest.raises(ValidationError) as caught:
        ways[how]()
    assert MATERIAL not in all_that_is_told(caught.value)
    assert next(iter(values)) in str(caught.value)


@pytest.mark.parametrize("values", UNFIT, ids=lambda values: "-".join(values))
def test_no_key_that_does_not_fit_is_shown(values: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    unfit = settings_with(**values)
    assert MATERIAL not in f"{unfit!r} {unfit}"
    with pytest.raises(ValueError, match=r"JWT_|TOTP_|RATE_LIMIT_STORAGE") as caught:
        include_auth(FastAPI(), settings=unfit)
    assert MATERIAL not in all_that_is_told(caught.value)
    assert MATERIAL not in caplog.text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AUTH_TOTP_ENCRYPTION_KEY", MATERIAL),
        ("AUTH_JWT_PRIVATE_KEY", MATERIAL),
        ("AUTH_JWT_PREVIOUS_KEYS", MATERIAL),
    ],
)
@pytest.mark.parametrize("file", [True, False])
def test_an_app_with_a_mistake_in_its_environment_names_the_setting_and_shows_no_key(
    name: str, value: str, file: bool, tmp_path: Path
) -> None:
    """As an operator sees it who starts the app, and the commands."""
    values = {"PUBLIC_BASE_URL": PUBLIC, "JWT_SECRET": SECRET, name: value}
    if name == "AUTH_JWT_PRIVATE_KEY":
        values["JWT_ALGORITHM"] = "ES256"
    if file:
        (tmp_path / ".env").write_text("".join(f"{key}={each}\n" for key, each in values.items()))
    code = "from fastapi import FastAPI; from fastapi_pluggable_auth import *; include_auth(FastAPI())"
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""} | ({} if file else values)
    command = [sys.executable, "-m", "fastapi_pluggable_auth"]
    url = ["--database-url", "sqlite://:memory:"]
    for arguments in ([sys.executable, "-c", code], [*command, "check"], [*command, "mail", "run", *url]):
        done = subprocess.run(arguments, capture_output=True, text=True, cwd=tmp_path, env=environment)
        assert done.returncode == 1
        assert name in (done.stdout + done.stderr).upper()
        assert MATERIAL not in done.stdout + done.stderr


def test_a_file_of_settings_that_is_no_text_is_named_and_not_shown(tmp_path: Path) -> None:
    (tmp_path / "env").write_bytes(f"JWT_SECRET={MATERIAL}".encode() + b"\xff")
    with pytest.raises(ValueError, match="not UTF-8") as caught:
        AuthSettings(_env_file=tmp_path / "env")
    assert MATERIAL not in all_that_is_told(caught.value)
    assert caught.value.__context__ is None


def test_no_secret_is_in_the_representation_of_keys_and_settings() -> None:
    """A-91."""
    values = {
        "jwt_secret": MATERIAL * 3,
        "jwt_previous_keys": [MATERIAL * 3],
        "totp_encryption_key": MATERIAL * 3,
        "totp_previous_keys": [MATERIAL * 3],
        "smtp_password": MATERIAL,
        "sendgrid_api_key": MATERIAL,
        "rate_limit_storage": f"redis://:{MATERIAL}@localhost",
    }
    shown = settings_with(**values)
    assert MATERIAL not in f"{shown!r} {shown} {key_set(shown)!r}"
    assert json.loads(shown.model_dump_json())["smtp_password"] == MATERIAL  # whoever asks for it gets it


async def test_no_token_is_in_the_representation_of_what_the_flows_give(account: Account, auth: Auth) -> None:
    """A-91."""
    tokens = await open_session(auth, await User.get(), device=Device())
    assert isinstance(tokens, TokenSet)
    given = [tokens.access_token, tokens.refresh_token, tokens.device]
    assert all(given)
    shown = repr([tokens, Challenge(MATERIAL, User()), Device(MATERIAL)])
    assert not [each for each in (*given, MATERIAL) if str(each) in shown]


def test_what_is_wrong_with_a_key_comes_with_the_cure() -> None:
    settings = settings_with(jwt_secret="short", jwt_previous_keys=["short"], totp_encryption_key="ab" * 16)
    cures = ("openssl rand", "Remove it", "keys seal")
    assert [next(cure for cure in cures if cure in each.sentence) for each in key_problems(settings)] == [
        *cures
    ]


@pytest.mark.parametrize("sign", ["!", "=", " ", "\n", "\u00e9", "."])
def test_a_token_has_no_other_signs(sign: str) -> None:
    """RFC 7515 section 2: decoders skip those that they do not know."""
    keys = key_set(settings_with(jwt_secret=SECRET))
    token = keys.sign({"sub": "1"}, "at+jwt")
    assert keys.open(token, "at+jwt") == {"sub": "1"}
    for place in (len(token), len(token) - 2):
        with pytest.raises(SignatureError):
            keys.open(token[:place] + sign + token[place:], "at+jwt")
