"""Settings: where they are read, by which names, and what is said of those that are not read."""

from __future__ import annotations

import logging
import os
import pkgutil
import subprocess
import sys
from pathlib import Path
from threading import Barrier, Thread

import pytest
from fastapi import FastAPI
from pydantic import ValidationError

import fastapi_pluggable_auth
from fastapi_pluggable_auth import AuthSettings, config, include_auth
from fastapi_pluggable_auth.cli import main
from fastapi_pluggable_auth.config import Settings

from .conftest import SECRET

ROOT = Path(fastapi_pluggable_auth.__file__).parent.parent
CONTRACT = [
    "JWT_SECRET",
    "JWT_ALGORITHM",
    "ACCESS_TOKEN_EXPIRES",
    "REFRESH_TOKEN_EXPIRES",
    "EMAIL_FROM",
    "PUBLIC_BASE_URL",
    "SINGLE_SESSION",
    "VERIFY_TOKEN_TTL",
    "RESET_TOKEN_TTL",
    "TOTP_ISSUER",
    "SMTP_HOST",
    "SMTP_PORT",
    "SMTP_USER",
    "SMTP_PASSWORD",
    "EMAIL_PROVIDER",
    "SENDGRID_API_KEY",
    "SENDGRID_FROM_EMAIL",
]
VALUES = {
    "JWT_ALGORITHM": "HS512",
    "ACCESS_TOKEN_EXPIRES": "77",
    "REFRESH_TOKEN_EXPIRES": "P3D",
    "SINGLE_SESSION": "true",
    "VERIFY_TOKEN_TTL": "77",
    "RESET_TOKEN_TTL": "77",
    "SMTP_PORT": "2525",
    "EMAIL_PROVIDER": "sendgrid",
}
"""Where any text will not do."""
EVERY_NAME = [name.upper() for name in AuthSettings.model_fields]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing is set, and the working folder is empty."""
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.upper().removeprefix("AUTH_") in {*EVERY_NAME, "TOTP_ISSUER"}:
            monkeypatch.delenv(name)
    return tmp_path


def said(caplog: pytest.LogCaptureFixture, settings: AuthSettings) -> list[str]:
    """What the start of an app says of names."""
    caplog.clear()
    include_auth(FastAPI(), settings=settings)
    return [line for line in caplog.messages if "is not" in line]


SOURCES = ("argument", "AUTH_ in the environment", "AUTH_ in .env", "bare in the environment", "bare in .env")


@pytest.mark.parametrize("missing", range(len(SOURCES) + 1))
@pytest.mark.parametrize("field", ["email_from", "breach_url"])
def test_the_prefix_counts_for_more_than_the_source(
    field: str, missing: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the sources that are left the first counts, but no bare name of what is not of the contract."""
    there, name = SOURCES[missing:], field.upper()
    lines = [f'{name}="bare in .env"'] if SOURCES[4] in there else []
    lines += [f"AUTH_{name}='AUTH_ in .env' # a comment"] if SOURCES[2] in there else []
    (folder / ".env").write_text("\n".join(lines))
    if SOURCES[1] in there:
        monkeypatch.setenv(f"AUTH_{name}", SOURCES[1])
    if SOURCES[3] in there:
        monkeypatch.setenv(name, SOURCES[3])
    read = getattr(AuthSettings(**{field: "argument"} if missing == 0 else {}), field)
    counting = [each for each in there if field == "email_from" or not each.startswith("bare")]
    assert read == (counting[0] if counting else AuthSettings.model_fields[field].default)


@pytest.mark.parametrize("file", [True, False])
@pytest.mark.parametrize("prefix", ["AUTH_", ""])
def test_each_name_of_the_contract_is_read_with_and_without_the_prefix(
    prefix: str, file: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in CONTRACT:
        value = VALUES.get(name, f"value-of-{name}")
        if file:
            with (folder / ".env").open("a") as lines:
                lines.write(f"{prefix}{name}={value}\n")
        else:
            monkeypatch.setenv(prefix + name, value)
        expected = getattr(AuthSettings(_env_file=None, **{name.lower(): value}), name.lower())
        assert getattr(AuthSettings(), name.lower()) == expected


def test_every_other_name_is_read_with_the_prefix_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whose value could not be read, were it looked at."""
    default = AuthSettings()
    others = {*EVERY_NAME} - {*CONTRACT}
    for name in others:
        monkeypatch.setenv(name, "\udcff")
    assert AuthSettings().model_dump() == default.model_dump()
    assert said(caplog, AuthSettings()) == [
        f"{name} is not read under this name: write AUTH_{name}." for name in sorted(others, key=str.lower)
    ]
    for name in others:
        monkeypatch.delenv(name)
        monkeypatch.setenv(f"AUTH_{name}", "\udcff")
        if AuthSettings.model_fields[name.lower()].annotation in (bool, int, float):
            with pytest.raises(ValidationError, match=f"AUTH_{name}"):
                AuthSettings()
        monkeypatch.delenv(f"AUTH_{name}")


def test_names_are_read_in_any_case(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("Auth_Max_Sessions", "7")
    (folder / ".env").write_text("auth_mail_limit=8\njwt_secret=of the file\n")
    read = AuthSettings()
    assert (read.max_sessions, read.mail_limit, read.jwt_secret) == (7, 8, "of the file")


def test_what_is_empty_is_not_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `docker --env-file` and compose files leave it."""
    monkeypatch.setenv("AUTH_JWT_SECRET", "")
    monkeypatch.setenv("JWT_SECRET", "bare")
    assert AuthSettings().jwt_secret == "bare"
    (folder / ".env").write_text("AUTH_JWT_SECRET=of the file\nAUTH_MAX_SESSIONS=\n")
    assert (AuthSettings().jwt_secret, AuthSettings().max_sessions) == ("of the file", 100)


@pytest.mark.parametrize("name", ["AUTH_JWT_SECRET", "auth_jwt_secret", "JWT_SECRET", "jwt_secret"])
def test_a_folder_of_secrets_has_the_same_names(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Docker and Kubernetes mount them."""
    (folder / "secrets").mkdir()
    (folder / "secrets" / name).write_text("of a file\n")
    (folder / "secrets" / "TOTP_ENCRYPTION_KEY").write_text(SECRET)
    read = AuthSettings(_secrets_dir="secrets")
    assert (read.jwt_secret, read.totp_encryption_key) == ("of a file", None)
    monkeypatch.setenv("JWT_SECRET", "bare")
    assert AuthSettings(_secrets_dir="secrets").jwt_secret == (
        "of a file" if "_jwt" in name.lower() else "bare"
    )


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({}, "MyApp"),
        ({"TOTP_ISSUER": "A"}, "A"),
        ({"TOTP_ISSUER": "A", "AUTH_TOTP_ISSUER": "B"}, "B"),
        ({"TOTP_ISSUER": "A", "AUTH_TOTP_ISSUER": "B", "AUTH_APP_NAME": "C"}, "C"),
        ({"AUTH_APP_NAME": "C", "totp_issuer": "D"}, "D"),
        ({"totp_issuer": "D", "app_name": "E"}, "E"),
        ({"APP_NAME": "F"}, "MyApp"),
    ],
)
def test_the_name_of_the_app_has_an_older_name(
    values: dict[str, str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One value, whichever name it has; the one of today counts for more."""
    for variable, value in values.items():
        if variable.isupper():
            monkeypatch.setenv(variable, value)
    read = AuthSettings(**{key: value for key, value in values.items() if key.islower()})
    assert (read.app_name, read.totp_issuer) == (name, name)
    read.totp_issuer = "Changed"
    assert read.app_name == "Changed"
    assert read.model_copy(update={"totp_issuer": "Copied"}).app_name == "Copied"
    with pytest.raises(ValidationError, match="totp_issuer"):
        read.totp_issuer = ""


def test_the_older_name_with_the_prefix_counts_for_more_than_the_bare_one_of_the_environment(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOTP_ISSUER", "bare")
    (folder / ".env").write_text("AUTH_TOTP_ISSUER=of the file\n")
    assert AuthSettings().app_name == "of the file"


def test_a_wrong_value_is_named_as_it_was_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def names() -> set[object]:
        with pytest.raises(ValidationError) as caught:
            AuthSettings(access_token_expires="soon")
        return {each["loc"][0] for each in caught.value.errors()}

    monkeypatch.setenv("AUTH_MAX_SESSIONS", "many")
    monkeypatch.setenv("SMTP_PORT", "many")
    monkeypatch.setenv("TOTP_ENCRYPTION_KEY", "short")  # which is not read
    (folder / ".env").write_text("AUTH_BCRYPT_ROUNDS=many\nREFRESH_TOKEN_EXPIRES=never\n")
    assert names() == {
        "access_token_expires",
        "AUTH_MAX_SESSIONS",
        "SMTP_PORT",
        "AUTH_BCRYPT_ROUNDS",
        "REFRESH_TOKEN_EXPIRES",
    }


def test_a_name_that_is_none_is_told_once_with_the_nearest_that_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AUTH_JWT_SECERT", SECRET)
    (folder / ".env").write_text(
        "auth_jwt_secert=x\nAUTH_XYZZY=1\nAUTH_COOKEIS=true\nUNKNOWN=1\nJWT_SECERT=1\n"
    )
    assert said(caplog, AuthSettings()) == [
        "AUTH_COOKEIS is not a setting, and is ignored: did you mean AUTH_COOKIES?",
        "AUTH_JWT_SECERT is not a setting, and is ignored: did you mean AUTH_JWT_SECRET?",
        "AUTH_XYZZY is not a setting, and is ignored.",
    ]
    assert SECRET not in caplog.text


def test_a_bare_name_that_would_store_plain_secrets_is_told(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TOTP_ENCRYPTION_KEY", SECRET)
    (folder / ".env").write_text("TOTP_ENCRYPTION_KEY=x\nJWT_SECRET=bare\nAPP_NAME=Shop\n")
    sentence = "TOTP_ENCRYPTION_KEY is not read under this name: write AUTH_TOTP_ENCRYPTION_KEY."
    named = "APP_NAME is not read under this name: write AUTH_APP_NAME."
    assert said(caplog, AuthSettings()) == [named, sentence]
    main(["check"])
    assert f"warning: {sentence}" in capsys.readouterr().err
    # An app that has both may mean the other for itself.
    monkeypatch.setenv("AUTH_TOTP_ENCRYPTION_KEY", SECRET)
    monkeypatch.setenv("AUTH_APP_NAME", "Shop")
    assert said(caplog, AuthSettings()) == []


def test_an_argument_that_is_no_setting_is_named_at_the_start() -> None:
    """`AuthSettings(AUTH_COOKIES=True)` would leave cookies off, and nobody would know."""
    given = AuthSettings(AUTH_COOKIES=True, max_sesions=3, Clear_Site_Data=True, totp_issuer="x", nothing=1)
    assert (given.cookies, given.clear_site_data) == (False, True)
    assert [*given.ignored_names()] == [
        "AUTH_COOKIES is not an argument of AuthSettings, and is ignored: did you mean cookies?",
        "max_sesions is not an argument of AuthSettings, and is ignored: did you mean max_sessions?",
        "nothing is not an argument of AuthSettings, and is ignored.",
    ]


class FeatureSettings(Settings):
    """What a feature brings."""

    orchids: int = 3
    orchid_key: str = ""


def test_a_feature_has_settings_of_its_own_that_the_app_knows(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    monkeypatch.setenv("AUTH_ORCHIDS", "4")
    monkeypatch.setenv("ORCHID_KEY", "bare")
    monkeypatch.setenv("AUTH_ORCHID", "4")
    (folder / ".env").write_text("AUTH_MAX_SESSIONS=7\n")
    feature = FeatureSettings()
    assert (feature.orchids, feature.orchid_key) == (4, "")
    assert [*AuthSettings().ignored_names(feature)] == [
        "AUTH_ORCHID is not a setting, and is ignored: did you mean AUTH_ORCHIDS?",
        "ORCHID_KEY is not read under this name: write AUTH_ORCHID_KEY.",
    ]
    monkeypatch.setenv("AUTH_ORCHIDS", "some")
    with pytest.raises(ValidationError, match="AUTH_ORCHIDS"):
        FeatureSettings()


def test_an_app_may_choose_another_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_MAX_SESSIONS", "7")
    monkeypatch.setenv("AUTH_MAX_SESSIONS", "8")
    read = AuthSettings(_env_prefix="SHOP_")
    assert (read.max_sessions, [*read.ignored_names()]) == (7, [])
    monkeypatch.setenv("MAX_SESSIONS", "9")
    assert AuthSettings(_env_prefix="").max_sessions == 9


def in_fresh_process(code: str, folder: Path, **environment: str) -> str:
    """What it prints; it must succeed."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        cwd=folder,
        env={"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "PATH": ""} | environment,
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout.decode()


MODULES = [
    module.name
    for module in pkgutil.walk_packages(fastapi_pluggable_auth.__path__, "fastapi_pluggable_auth.")
    if not module.name.endswith(".__main__")
]


def test_importing_the_package_reads_no_setting(folder: Path) -> None:
    """Each module, beside values and a file that could not be read, were they looked at."""
    (folder / ".env").write_bytes(b"AUTH_JWT_SECRET=\xff\n")
    code = (
        f"from importlib import import_module\nfor name in {MODULES}: import_module(name)\n"
        "from fastapi_pluggable_auth import config\nassert 'settings' not in vars(config)\n"
        "try: config.settings\nexcept ValueError: print('read', end='')"
    )
    broken = {"AUTH_COOKIES": "/var/lib/cookies", "SMTP_PORT": "none"}
    assert in_fresh_process(code, folder, **broken) == "read"


@pytest.mark.parametrize("module", ["fastapi_pluggable_auth", "fastapi_pluggable_auth.models"])
def test_a_variable_of_the_host_is_its_own(module: str, folder: Path) -> None:
    """As where it names a file."""
    in_fresh_process(f"import {module}", folder, COOKIES="/var/lib/cookies")


def test_the_default_settings_are_one_object_that_is_made_when_it_is_named(folder: Path) -> None:
    code = (
        "import os, fastapi_pluggable_auth.models\n"
        "os.environ['AUTH_MAX_SESSIONS'] = '7'\n"
        "from fastapi_pluggable_auth.config import settings\n"
        "from fastapi_pluggable_auth import config, include_auth\n"
        "from fastapi import FastAPI\n"
        "assert settings is config.settings and settings.max_sessions == 7\n"
        "settings.max_sessions = 8\nassert include_auth(FastAPI()).settings is settings\n"
        "assert config.settings.max_sessions == 8\n"
        "try: config.setings\nexcept AttributeError as error: print(error, end='')"
    )
    assert "has no attribute 'setings'" in in_fresh_process(code, folder)


def test_threads_that_name_them_at_once_get_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(vars(config), "settings", raising=False)
    start, found = Barrier(8), []

    def name() -> None:
        start.wait()
        found.append(config.settings)

    threads = [Thread(target=name) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len({id(each) for each in found}) == 1
    assert len(found) == 8


def test_what_is_set_before_the_app_is_made_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a test of a host does it."""
    monkeypatch.setenv("AUTH_MAX_SESSIONS", "7")
    assert include_auth(FastAPI(), settings=AuthSettings()).settings.max_sessions == 7


def test_no_name_is_told_where_all_are_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("AUTH_MAX_SESSIONS", "7")
    monkeypatch.setenv("TOTP_ISSUER", "Shop")
    (folder / ".env").write_text("JWT_SECRET=bare\nAUTH_TOTP_ISSUER=Shop\nDATABASE_URL=sqlite://\n")
    assert said(caplog, AuthSettings()) == []
