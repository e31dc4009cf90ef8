"""`fastapi-pluggable-auth users`: what an operator does with accounts."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from tortoise.backends.base.executor import EXECUTOR_CACHE

from fastapi_pluggable_auth import Auth, AuthError, AuthSettings, ErrorCode
from fastapi_pluggable_auth.cli import main
from fastapi_pluggable_auth.commands.database import connected
from fastapi_pluggable_auth.features.administration.users import create_user
from fastapi_pluggable_auth.features.audit_log.models import AuditEvent
from fastapi_pluggable_auth.features.passkeys.models import Passkey
from fastapi_pluggable_auth.flows.login import login
from fastapi_pluggable_auth.models import Device, Identity, Mail, Pending, RecoveryCode, Session, User
from fastapi_pluggable_auth.security.totp import generate_totp_secret

from . import databases
from .conftest import EMAIL, PASSWORD, SECRET, SQLITE_UNLESS_FULL, Database

DIALECTS = SQLITE_UNLESS_FULL

COMMAND = [sys.executable, "-m", "fastapi_pluggable_auth", "users"]


@pytest.fixture
def url(database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """An empty database, named by DATABASE_URL, and the settings of a deployment."""
    EXECUTOR_CACHE.clear()  # the SQL of another dialect under the same connection name
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "DATABASE_URL": database.url,
        "JWT_SECRET": SECRET,
        "AUTH_BCRYPT_ROUNDS": "4",
    }.items():
        monkeypatch.setenv(name, value)

    async def empty() -> None:
        async with connected(database.url):
            for table in (Session, Mail, Pending, AuditEvent, User):
                await table.all().delete()

    asyncio.run(empty())
    yield database.url
    EXECUTOR_CACHE.clear()


class Command:
    """The command in this process, and what it printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *arguments: str, status: int = 0) -> str:
        """What it prints on stdout."""
        assert main(["users", *arguments]) == status
        printed = self.capsys.readouterr()
        self.errors = printed.err
        return printed.out


@pytest.fixture
def users(url: str, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


def run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """The command as an operator starts it."""
    return subprocess.run(
        [*COMMAND, *arguments], input=stdin, capture_output=True, text=True, timeout=60, check=False
    )


def on_terminal(*arguments: str, typed: str) -> tuple[int, str]:
    """The command on a terminal: its exit status and what is on the screen."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *arguments], stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    )
    os.close(slave)
    screen = ""
    for line in typed.splitlines():
        while not screen.endswith((": ", "] ")):
            screen += os.read(master, 1024).decode()
        os.write(master, f"{line}\n".encode())
        screen += "\n"
    while True:
        try:
            screen += os.read(master, 1024).decode()
        except OSError:
            break
    os.close(master)
    return process.wait(30), screen


def read(url: str, work: Callable[[], object]) -> object:
    async def inside() -> object:
        async with connected(url):
            return await work()  # type: ignore[misc]

    return asyncio.run(inside())


def logs_in(url: str, name: str = EMAIL, password: str = PASSWORD) -> bool:
    async def attempt() -> bool:
        async with connected(url):
            auth = Auth(AuthSettings())
            try:
                await login(auth, name, password)
            except AuthError as error:
                if error.code is not ErrorCode.INVALID_CREDENTIALS:
                    raise
                return False
            finally:
                await auth.close()
            return True

    return asyncio.run(attempt())


# --- as an operator starts it, on SQLite -----------------------------------------------------------------

sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


@sqlite
def test_a_life_on_the_command_line(url: str) -> None:
    made = run("create", EMAIL, "--password-stdin", "--verified", stdin=f"{PASSWORD}\n")
    assert (made.returncode, made.stderr) == (0, "")
    user_id, _, active, verified, factors, email = made.stdout.split()
    assert UUID(user_id)
    assert (active, verified, factors, email) == ("active", "verified", "-", EMAIL)
    assert logs_in(url)
    listed = run("list")
    assert (listed.stdout, listed.stderr) == (made.stdout, "1 users\n")
    assert run("disable", EMAIL).stdout == f"{user_id}  {EMAIL}  disabled\n"
    assert not logs_in(url)
    assert run("list", "--disabled").stdout.split()[2] == "disabled"
    assert run("enable", user_id).stdout == f"{user_id}  {EMAIL}  enabled\n"
    assert logs_in(url)
    shown = run("show", EMAIL).stdout
    assert "sessions                 2\n" not in shown
    assert "sessions                 1\n" in shown
    assert "has_password             yes\n" in shown
    run("logout", EMAIL)
    assert json.loads(run("show", EMAIL, "--json").stdout)["sessions"] == 0
    assert run("delete", EMAIL, "--yes").stdout == f"{user_id}  {EMAIL}  deleted\n"
    gone = run("show", EMAIL)
    assert (gone.returncode, gone.stdout, gone.stderr) == (1, "", "There is no such user.\n")


@sqlite
def test_a_password_is_asked_for_twice_and_shown_never(url: str) -> None:
    status, screen = on_terminal("create", EMAIL, "--verified", typed=f"{PASSWORD}\n{PASSWORD}\n")
    assert (status, PASSWORD in screen) == (0, False), screen
    assert logs_in(url)
    status, screen = on_terminal("create", "eve@example.com", typed=f"{PASSWORD}\nanother one\n")
    assert (status, "The two passwords differ." in screen) == (1, True)


@sqlite
@pytest.mark.parametrize(("answer", "left"), [("y", 0), ("Y", 0), ("", 1), ("n", 1), ("yes please", 1)])
def test_a_deletion_is_confirmed(answer: str, left: int, url: str, users: Command) -> None:
    users("create", EMAIL, "--no-password")
    status, screen = on_terminal("delete", EMAIL, typed=f"{answer}\n")
    assert f"Delete {EMAIL} and all that hangs on it? [y/N] " in screen
    assert status == left
    assert read(url, lambda: User.all().count()) == left


@sqlite
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["create", EMAIL], "no terminal to ask on: pass --password-stdin or --no-password"),
        (["create", EMAIL, "--password-stdin"], "(8 to 1024 characters) is not valid"),
        (["create", "no address", "--no-password"], "is not an e-mail address"),
        (["create", EMAIL, "--no-password", "--username", "ada"], "Users of this app have no usernames"),
        (["delete", "eve@example.com"], "no terminal to ask on: pass --yes"),
        (["create", "eve@example.com", "--no-password"], "already exists"),
        (["disable", str(uuid4())], "There is no such user."),
        (["show", "\udcff"], "There is no such user."),
        (["grant", "nobody@example.com", "--role", "editor"], "There is no such user."),
        (["verify", "nobody@example.com"], "There is no such user."),
        (["set-password", "nobody@example.com", "--password-stdin"], "There is no such user."),
        (["set-password", "eve@example.com"], "no terminal to ask on: pass --password-stdin."),
        (["set-password", "eve@example.com", "--password-stdin"], "A password has 8 to 1024 characters."),
    ],
)
def test_a_refusal_is_one_sentence(
    arguments: list[str], says: str, users: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    users("create", "eve@example.com", "--no-password")
    monkeypatch.setattr(sys, "stdin", io.StringIO("short\n"))
    assert users(*arguments, status=1) == ""
    assert says in users.errors
    assert users.errors.count("\n") == 1


@sqlite
@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["list", "--limit", "0"],
        ["list", "--after", "x"],
        ["list", "--all", "--limit", "3"],
        ["create", EMAIL, "--password", PASSWORD],
        ["create", EMAIL, "--no-password", "--password-stdin"],
        ["show"],
    ],
)
def test_a_wrong_call_says_how_it_is_called(arguments: list[str], users: Command) -> None:
    with pytest.raises(SystemExit) as ended:
        users(*arguments)
    assert ended.value.code == 2
    said = users.capsys.readouterr().err
    assert re.fullmatch(r"fastapi-pluggable-auth.*: .+ See fastapi-pluggable-auth .+ --help\.\n", said)


# --- on every database -----------------------------------------------------------------------------------


def test_pages_of_the_list_go_on_where_the_last_one_ended(users: Command) -> None:
    for number in range(5):
        users("create", f"u{number}@example.com", "--no-password")
    first = users("list", "--limit", "2")
    assert users.errors.startswith("2 users, and more: --after ")
    second = users("list", "--limit", "2", "--after", users.errors.split()[-1])
    third = users("list", "--limit", "2", "--after", users.errors.split()[-1])
    assert users.errors == "1 users\n"
    assert first + second + third == users("list", "--all")
    emails = [line.split()[-1] for line in (first + second + third).splitlines()]
    assert emails == [f"u{number}@example.com" for number in reversed(range(5))]


def test_the_list_is_searched_and_filtered_and_is_json_where_asked(users: Command) -> None:
    users("create", EMAIL, "--no-password", "--verified", "--display-name", "Ada")
    users("create", "eve@example.com", "--no-password")
    assert users("list", "--search", "EVE").split()[-1] == "eve@example.com"
    assert users("list", "--unverified").count("\n") == 1
    assert users("list", "--disabled") == ""
    eve, ada = [json.loads(line) for line in users("list", "--json").splitlines()]
    assert (ada["email"], ada["display_name"], ada["is_verified"]) == (EMAIL, "Ada", True)
    assert (eve["is_active"], eve["last_login_at"]) == (True, None)
    assert not {"hashed_password", "totp_secret"} & ada.keys()


def test_an_administrator_is_made(users: Command) -> None:
    users("create", EMAIL, "--no-password", "--role", "editor", "--role", "admin", "--superuser")
    users("create", "eve@example.com", "--no-password")
    assert users("list", "--role", "admin").split()[-1] == EMAIL
    shown = json.loads(users("show", EMAIL, "--json"))
    assert (shown["roles"], shown["is_superuser"]) == (["admin", "editor"], True)
    assert "roles                    admin editor\n" in users("show", EMAIL)
    users("create", "kim@example.com", "--no-password", "--role", "no name", status=2)
    assert "use printable ASCII" in users.errors
    assert "kim" not in users("list")


@sqlite
def test_roles_and_permissions_are_given_and_taken(users: Command) -> None:
    users("create", EMAIL, "--no-password")
    given = users("grant", EMAIL, "--role", "editor", "--role", "support", "--permission", "notes:read")
    assert given.split()[1:] == [EMAIL, "editor", "support", "notes:read"]
    assert users("grant", EMAIL, "--superuser").split()[2] == "superuser"
    shown = json.loads(users("show", EMAIL, "--json"))
    assert (shown["roles"], shown["permissions"]) == (["editor", "support"], ["notes:read"])
    taken = users("revoke", EMAIL, "--role", "editor", "--permission", "notes:read", "--superuser")
    assert taken.split()[1:] == [EMAIL, "support"]
    users("grant", EMAIL, status=2)
    assert users.errors == "Nothing to change: pass --role, --permission or --superuser.\n"


SHOP = """
from fastapi import FastAPI
from fastapi_pluggable_auth import include_auth
app = FastAPI()
include_auth(app, roles={"editor": "notes:write", "support": "accounts:read"})
"""


@sqlite
@pytest.mark.parametrize(
    "arguments",
    [
        ["create", "kim@example.com", "--no-password", "--role", "nosuchrole"],
        ["grant", EMAIL, "--role", "editor", "--role", "nosuchrole"],
        ["revoke", EMAIL, "--role", "nosuchrole"],
        ["list", "--role", "nosuchrole"],
    ],
)
def test_a_role_that_the_app_does_not_have_is_refused_with_those_that_there_are(
    arguments: list[str], users: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    users("create", EMAIL, "--no-password")
    (tmp_path / "shop_app.py").write_text(SHOP)
    monkeypatch.syspath_prepend(str(tmp_path))
    users(*arguments, "--app", "shop_app:app", status=2)
    assert users.errors == "The app has no role nosuchrole: its roles are editor, support.\n"
    assert users("list").split()[-1] == EMAIL, "nothing was made"
    assert json.loads(users("show", EMAIL, "--json"))["roles"] == []


@sqlite
def test_a_role_that_the_app_no_longer_has_can_be_taken_and_not_imported(
    users: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    users("create", EMAIL, "--no-password", "--role", "former")
    (tmp_path / "shop_app.py").write_text(SHOP)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert users("revoke", EMAIL, "--role", "former", "--app", "shop_app:app").split()[-1] == "-"
    (tmp_path / "users.csv").write_text("email,roles\nkim@example.com,former\neve@example.com,editor\n")
    assert users("import", "users.csv", "--app", "shop_app:app", status=1).startswith("1 imported")
    assert "roles: the app has no role former" in users.errors


@sqlite
def test_a_password_set_by_the_operator_ends_what_a_reset_ends(users: Command, url: str) -> None:
    run("create", EMAIL, "--password-stdin", "--verified", stdin=f"{PASSWORD}\n")
    assert logs_in(url)

    async def prepare() -> None:
        user = await User.get(email=EMAIL)
        await User.filter(id=user.id).update(password_reset_required=True)
        now = datetime.now(UTC)
        await Device.create(user_id=user.id, digest="0" * 64, expires_at=now, last_used_at=now)

    read(url, prepare)
    done = run("set-password", EMAIL, "--password-stdin", stdin="another long river\n")
    assert (done.returncode, done.stdout.split()[1:], done.stderr) == (0, [EMAIL, "password", "set"], "")
    shown = json.loads(users("show", EMAIL, "--json"))
    assert (shown["sessions"], shown["password_reset_required"]) == (0, False)
    assert read(url, lambda: Device.all().count()) == 0
    assert read(url, lambda: Mail.filter(kind="password_changed").count()) == 1
    assert read(url, lambda: AuditEvent.filter(kind="password_reset", outcome="success").count()) == 1
    assert not logs_in(url)
    assert logs_in(url, password="another long river")


@sqlite
def test_an_address_is_verified_once_and_keeps_its_password(users: Command, url: str) -> None:
    run("create", EMAIL, "--password-stdin", stdin=f"{PASSWORD}\n")
    assert users("verify", EMAIL).endswith(f"  {EMAIL}  verified\n")
    assert logs_in(url)
    users("verify", EMAIL)
    assert json.loads(users("show", EMAIL, "--json"))["sessions"] == 1, "again changes nothing"
    assert read(url, lambda: AuditEvent.filter(kind="email_verification").count()) == 2


def test_an_account_without_a_password_is_mailed_where_asked(users: Command, url: str) -> None:
    users("create", EMAIL, "--no-password", "--mail")
    (mail,) = read(url, lambda: Mail.all().values())  # type: ignore[misc]
    assert (mail["kind"], mail["recipient"]) == ("reset", EMAIL)
    assert "has_password             no\n" in users("show", EMAIL)


def test_two_factor_is_reset(users: Command, url: str) -> None:
    async def enrol() -> None:
        user = await create_user(Auth(AuthSettings()), EMAIL)
        await User.filter(id=user.id).update(totp_secret=generate_totp_secret(), totp_confirmed=True)
        await RecoveryCode.create(user_id=user.id, digest="0" * 64)

    read(url, enrol)
    assert users("list").split()[4] == "2fa"
    assert json.loads(users("show", EMAIL, "--json"))["recovery_codes"] == 1
    assert users("unlock", EMAIL).endswith(f"  {EMAIL}  unlocked\n")
    assert users("reset-2fa", EMAIL).endswith(f"  {EMAIL}  reset\n")
    shown = json.loads(users("show", EMAIL, "--json"))
    assert (shown["two_factor"], shown["recovery_codes"]) == (False, 0)
    assert read(url, lambda: RecoveryCode.all().count()) == 0


async def make_passkey(user: User, name: str, *, signs_in: bool = True) -> None:
    """As the routes store it, which commands have no part in."""
    await Passkey.create(
        user_id=user.id,
        digest=uuid4().hex,
        credential_id=uuid4().hex,
        public_key="AA",
        aaguid=uuid4(),
        backup_eligible=True,
        backed_up=True,
        verifies_user=signs_in,
        name=name,
        created_at=datetime.now(UTC),
    )
    ours = {"passkey"} | (set() if signs_in else {"security_key"})
    await User.filter(id=user.id).update(second_factors=user.second_factors | ours)


def test_passkeys_are_shown_and_removed_and_the_owner_is_told(users: Command, url: str) -> None:
    async def prepare() -> None:
        user = await create_user(Auth(AuthSettings()), EMAIL)
        await make_passkey(user, "Phone")
        await make_passkey(user, "Laptop")

    read(url, prepare)
    assert users("list").split()[4] == "key"
    assert json.loads(users("list", "--json"))["second_factors"] == ["passkey"]
    assert re.search(r"^passkeys +2$", users("show", EMAIL), re.MULTILINE)
    shown = json.loads(users("show", EMAIL, "--json"))
    assert [(each["name"], each["signs_in"]) for each in shown["passkeys"]] == [
        ("Phone", True),
        ("Laptop", True),
    ]
    assert users("reset-passkeys", EMAIL).endswith(f"  {EMAIL}  passkeys removed\n")
    after = json.loads(users("show", EMAIL, "--json"))
    assert (after["passkeys"], after["second_factors"], users("list").split()[4]) == ([], [], "-")
    assert read(url, lambda: Mail.filter(kind="passkey_removed", recipient=EMAIL).count()) == 2
    assert read(url, lambda: AuditEvent.filter(kind="passkey_removed", outcome="success").count()) == 2
    users("reset-passkeys", EMAIL)
    assert read(url, lambda: Mail.all().count()) == 2, "again changes nothing"


def test_a_key_that_is_asked_for_beside_the_password_goes_with_the_sessions(users: Command, url: str) -> None:
    async def prepare() -> None:
        user = await create_user(Auth(AuthSettings()), EMAIL, PASSWORD, verified=True)
        auth = Auth(AuthSettings())
        await login(auth, EMAIL, PASSWORD)
        await auth.close()
        await make_passkey(user, "Key", signs_in=False)

    read(url, prepare)
    assert users("list").split()[4] == "2fa"
    users("reset-2fa", EMAIL)
    assert "a login still asks for a passkey" in users.errors
    assert json.loads(users("show", EMAIL, "--json"))["sessions"] == 1
    users("reset-passkeys", EMAIL)
    assert (users.errors, users("list").split()[4]) == ("", "-")
    assert json.loads(users("show", EMAIL, "--json"))["sessions"] == 0
    users("reset-2fa", EMAIL)
    assert users.errors == ""


@sqlite
def test_passkeys_are_removed_where_fido2_is_not_installed(users: Command, url: str) -> None:
    async def prepare() -> None:
        await make_passkey(await create_user(Auth(AuthSettings()), EMAIL), "Phone")

    read(url, prepare)
    without = "import sys; sys.modules['fido2'] = None; from fastapi_pluggable_auth.cli import main; "
    for command in ("show", "reset-passkeys"):
        work = f"{without}sys.exit(main(['users', {command!r}, {EMAIL!r}]))"
        done = subprocess.run([sys.executable, "-c", work], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
    assert read(url, lambda: Passkey.all().count()) == 0


async def make_identity(user: User, provider: str, subject: str) -> None:
    digest = hashlib.sha256(f"{provider} {subject}".encode()).hexdigest()
    at = {"provider": provider, "issuer": f"https://{provider}.example", "subject": subject}
    await Identity.create(user=user, digest=digest, email=EMAIL, vouched=True, **at)


def test_identities_are_shown_and_disconnected_and_the_owner_is_told(users: Command, url: str) -> None:
    async def prepare() -> None:
        user = await create_user(Auth(AuthSettings()), EMAIL)
        await make_identity(user, "acme", "1")
        await make_identity(user, "google", "2")

    read(url, prepare)
    assert re.search(r"^identities +acme google$", users("show", EMAIL), re.MULTILINE)
    shown = json.loads(users("show", EMAIL, "--json"))["identities"]
    assert [(each["provider"], each["email"], each["held"]) for each in shown] == [
        ("acme", EMAIL, False),
        ("google", EMAIL, False),
    ]
    assert users("reset-identities", EMAIL).endswith(f"  {EMAIL}  identities disconnected\n")
    assert json.loads(users("show", EMAIL, "--json"))["identities"] == []
    assert read(url, lambda: Mail.filter(kind="identity_removed", recipient=EMAIL).count()) == 2
    assert read(url, lambda: AuditEvent.filter(kind="identity_removed", outcome="success").count()) == 2
    users("reset-identities", EMAIL)
    assert read(url, lambda: Mail.all().count()) == 2, "again changes nothing"


@sqlite
def test_identities_are_disconnected_where_joserfc_is_not_installed(users: Command, url: str) -> None:
    async def prepare() -> None:
        await make_identity(await create_user(Auth(AuthSettings()), EMAIL), "acme", "1")

    read(url, prepare)
    without = "import sys; sys.modules['joserfc'] = None; from fastapi_pluggable_auth.cli import main; "
    for command in ("show", "reset-identities"):
        work = f"{without}sys.exit(main(['users', {command!r}, {EMAIL!r}]))"
        done = subprocess.run([sys.executable, "-c", work], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
    assert read(url, lambda: Identity.all().count()) == 0


def test_a_stored_name_writes_nothing_of_its_own_on_a_terminal(users: Command, url: str) -> None:
    async def store() -> None:
        await User.create(
            email="e\x1b[2Jve@example.com", hashed_password="!", display_name="a\nb\x1b]0;c\x07"
        )

    read(url, store)
    for printed in (users("list"), users("show", json.loads(users("list", "--json"))["id"])):
        assert not [character for character in printed if character < " " and character != "\n"]
    assert users("list").count("\n") == 1


def test_a_database_that_is_not_there_is_said(users: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none")
    users("list", status=1)
    assert "No database answers" in users.errors


def test_an_app_with_its_own_users_is_named_by_its_configuration(
    users: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite://{tmp_path / 'own.sqlite3'}"
    asyncio.run(databases.create(url, "sqlite", "tests.own_tables", "shop"))
    settings = databases.config(url, "own command", "shop", "tests.own_tables")
    (tmp_path / "own_settings.py").write_text(f"TORTOISE_ORM = {settings!r}")
    monkeypatch.syspath_prepend(str(tmp_path))
    config = ["--config", "own_settings.TORTOISE_ORM"]
    users("create", EMAIL, "--no-password", *config, status=1)
    assert users.errors == "Users of this app have usernames: pass --username.\n"
    assert users("create", EMAIL, "--no-password", "--username", "Ada", *config).split()[-2:] == [
        EMAIL,
        "ada",
    ]
    assert json.loads(users("show", "ADA", "--json", *config))["username"] == "ada"
    sys.modules.pop("own_settings", None)


def test_the_columns_of_a_host_are_set_by_name(
    users: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite://{tmp_path / 'form.sqlite3'}"
    asyncio.run(databases.create(url, "sqlite", "tests.own_form", "shop"))
    settings = databases.config(url, "form command", "shop", "tests.own_form")
    (tmp_path / "form_settings.py").write_text(f"TORTOISE_ORM = {settings!r}")
    monkeypatch.syspath_prepend(str(tmp_path))
    common = [EMAIL, "--no-password", "--username", "ada", "--config", "form_settings.TORTOISE_ORM"]
    given: list[str] = []
    for missing, value in (("company", "company=Engines"), ("plan", "plan=team"), ("seats", "seats=3")):
        users("create", *common, *given, status=1)
        assert users.errors == f"Users of this app need {missing}: pass --set {missing}=VALUE.\n"
        given += ["--set", value]
    for wrong in ("seats=many", "plan=gold", f"seats={2**40}", f"company={'x' * 21}", "born_on=1"):
        users("create", *common, *given, "--set", wrong, status=1)
        assert users.errors == f"The value of {wrong.partition('=')[0]} is not valid.\n", wrong
    for unknown in ("hashed_password=x", "is_superuser=1", "username=eve", "nothing=1"):
        users("create", *common, *given, "--set", unknown, status=1)
        assert "have no column" in users.errors
    users("create", *common, *given, "--set", "phone=12")
    shown = json.loads(users("show", "ada", "--json", "--config", "form_settings.TORTOISE_ORM"))
    assert shown["username"] == "ada"
    users(
        "create", "bob@example.com", *common[1:3], "bob", *common[4:], *given, "--set", "phone=12", status=1
    )
    assert users.errors.startswith("The value of phone is refused: A value belongs to another account")
    sys.modules.pop("form_settings", None)


@sqlite
def test_what_is_no_address_and_no_name_is_said_in_one_sentence(users: Command) -> None:
    for command in (["invite", "bad"], ["create", "bad", "--no-password"]):
        users(*command, status=1)
        assert users.errors == "'bad' is not an e-mail address.\n"
    users("invite", EMAIL, "--display-name", "x" * 99, status=1)
    assert users.errors == "A name is not valid.\n"


def test_people_are_invited_again_and_again_until_they_use_the_account(
    url: str, users: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an app; its process sends the mails."""
    monkeypatch.setenv("AUTH_SIGNUP", "invited")
    first = users("invite", f" {EMAIL.upper()} ", "--role", "editor", "--display-name", "Ada")
    assert users("invite", EMAIL, "--role", "author") == first
    (user,) = read(url, lambda: User.all())
    assert (user.email, user.display_name, user.is_verified) == (EMAIL, "Ada", False)
    assert user.roles == {"editor", "author"}
    assert read(url, lambda: Mail.all().values_list("kind", "recipient")) == [("invite", EMAIL)] * 2
    users("create", "eve@example.com", "--no-password", "--verified")
    users("invite", "eve@example.com", status=1)
    assert users.errors == "An account with this e-mail address already exists.\n"
    monkeypatch.setenv("AUTH_SIGNUP", "closed")
    users("invite", "kim@example.com", status=1)
    assert "set it to `invited` or `open`" in users.errors
    assert read(url, lambda: User.all().count()) == 2


MAILING_APP = """
from fastapi import FastAPI

from fastapi_pluggable_auth import AuthSettings, include_auth
from fastapi_pluggable_auth.features import EmailSignIn

features = [EmailSignIn(allowed=lambda user: user.display_name != "By password only")]
app, codes, tokens = FastAPI(), FastAPI(), FastAPI()
include_auth(app, settings=AuthSettings(), pages=True, features=features)
include_auth(codes, settings=AuthSettings(), pages=True, features=[EmailSignIn(link=False)])
include_auth(tokens, settings=AuthSettings(), features=features)
"""


def test_support_mails_a_link_and_learns_nothing_that_signs_in(
    users: Command, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mailing.py").write_text(MAILING_APP)
    users("create", EMAIL, "--no-password", "--verified")
    mailed = run("mail-link", EMAIL, "--app", "mailing:app")
    assert mailed.returncode == 0, mailed.stderr
    assert re.fullmatch(rf"[0-9a-f-]{{36}}  {EMAIL}  mailed\n", mailed.stdout)
    (mail,) = read(url, Mail.all)  # type: ignore[misc]
    assert (mail.kind, mail.recipient) == ("email_sign_in_link", EMAIL)
    (waiting,) = read(url, Pending.all)  # type: ignore[misc]
    assert waiting.id not in mailed.stdout + mailed.stderr
    for named in ((), ("--app", "mailing:codes"), ("--app", "mailing:tokens")):
        assert run("mail-link", EMAIL, *named).returncode != 0
    read(url, lambda: User.all().update(display_name="By password only"))
    refused = run("mail-link", EMAIL, "--app", "mailing:app")
    assert (refused.returncode != 0, "may not sign in by mail" in refused.stderr) == (True, True)
    monkeypatch.delenv("JWT_SECRET")
    assert "JWT_SECRET" in run("mail-link", EMAIL, "--app", "mailing:app").stderr
    assert read(url, lambda: Mail.all().count()) == 1
