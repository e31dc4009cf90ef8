"""`fastapi-pluggable-auth keys rotate`: a new key signs, and the earlier one stays good for a while."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from dotenv import dotenv_values

from fastapi_pluggable_auth import AuthSettings
from fastapi_pluggable_auth.cli import main
from fastapi_pluggable_auth.security.key_rotation import rotated_keys
from fastapi_pluggable_auth.security.keys import key_set, secret_problem

from .conftest import EMAIL, SECRET, Account
from .test_keys import EC, OTHER_EC, RSA, WIDE_EC, header_of, pem_of, public_keys, public_pem_of

# What is tested here is the same on every database.
DIALECTS = ("sqlite",)

PRESENT = {
    "HS256": ("JWT_SECRET", SECRET),
    "HS512": ("JWT_SECRET", SECRET * 2),
    "RS256": ("AUTH_JWT_PRIVATE_KEY", pem_of(RSA).strip().replace("\n", "\\n")),
    "ES256": ("AUTH_JWT_PRIVATE_KEY", pem_of(EC).strip().replace("\n", "\\n")),
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing but the file counts."""
    monkeypatch.chdir(tmp_path)
    for name in ("JWT_SECRET", "JWT_ALGORITHM", "AUTH_JWT_PRIVATE_KEY", "AUTH_JWT_PREVIOUS_KEYS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def env_file(tmp_path: Path) -> Path:
    path = tmp_path / ".env"
    path.write_text(f"JWT_SECRET={SECRET}\n")
    return path


def use(settings: AuthSettings, path: Path) -> None:
    """Gives the app the keys of the file, as a restart does."""
    read = AuthSettings(_env_file=path)
    for name in ("jwt_algorithm", "jwt_secret", "jwt_private_key", "jwt_previous_keys"):
        setattr(settings, name, getattr(read, name))


@pytest.mark.parametrize("algorithm", PRESENT)
async def test_tokens_of_the_earlier_key_are_good_until_it_is_dropped(
    algorithm: str, env_file: Path, settings: AuthSettings, account: Account, client: httpx.AsyncClient
) -> None:
    name, key = PRESENT[algorithm]
    env_file.write_text(f"JWT_ALGORITHM={algorithm}\n{name}={key}\n")
    use(settings, env_file)
    assert (await account.login()).status_code == 200
    first, published = account.access_token, await public_keys(client)
    await client.post("/auth/forgot-password", json={"email": EMAIL})
    link = account.mailbox.link()
    assert main(["keys", "rotate", "--env-file", str(env_file)]) == 0
    use(settings, env_file)
    assert (await account.me(first)).status_code == 200
    assert (await client.head(link)).status_code == 200
    refreshed = await account.refresh()
    assert refreshed.status_code == 200
    second = refreshed.json()["access_token"]
    assert header_of(second)["kid"] != header_of(first)["kid"]
    if algorithm[:2] != "HS":
        kids = {each["kid"] for each in await public_keys(client)}
        assert kids == {header_of(first)["kid"], header_of(second)["kid"]}
        assert kids > {each["kid"] for each in published}
    assert main(["keys", "rotate", "--env-file", str(env_file)]) == 0
    use(settings, env_file)
    assert (await account.me(first)).status_code == 401
    assert (await client.head(link)).status_code == 404
    assert (await account.me(second)).status_code == 200
    assert main(["keys", "rotate", "--env-file", str(env_file), "--keep", "0"]) == 0
    use(settings, env_file)
    assert settings.jwt_previous_keys == []
    assert (await account.me(second)).status_code == 401
    assert (await account.login()).status_code == 200


@pytest.mark.parametrize(
    ("algorithm", "key"),
    [
        *((f"HS{bits}", SECRET) for bits in (256, 384, 512)),
        *((f"RS{bits}", pem_of(RSA)) for bits in (256, 384, 512)),
        ("ES256", pem_of(EC)),
        ("ES384", pem_of(ec.generate_private_key(ec.SECP384R1()))),
        ("ES512", pem_of(WIDE_EC)),
    ],
    ids=lambda value: value if len(value) == 5 else "key",
)
def test_a_new_key_fits_its_algorithm(algorithm: str, key: str) -> None:
    name = "jwt_secret" if algorithm.startswith("HS") else "jwt_private_key"
    settings = AuthSettings(_env_file=None, jwt_algorithm=algorithm, **{name: key})
    values = {name.lower(): value for name, value in rotated_keys(settings).items()}
    after = AuthSettings(_env_file=None, jwt_algorithm=algorithm, **values)
    assert secret_problem(after) is None
    assert key_set(after).verifying.keys() > key_set(settings).verifying.keys()


def test_as_many_earlier_keys_are_kept_as_asked() -> None:
    keys = [f"{number:032}" for number in range(5)]
    settings = AuthSettings(_env_file=None, jwt_secret=keys[0], jwt_previous_keys=keys[1:])
    for keep in range(6):
        assert rotated_keys(settings, keep=keep)["JWT_PREVIOUS_KEYS"] == ",".join(keys[:keep])


def test_the_placeholder_is_never_kept() -> None:
    """Anyone can sign with it."""
    assert rotated_keys(AuthSettings(_env_file=None))["JWT_PREVIOUS_KEYS"] == ""


def test_previous_key_pairs_and_files_of_keys_stay_good(tmp_path: Path) -> None:
    present, earlier = tmp_path / "key.pem", tmp_path / "earlier.pem"
    present.write_text(pem_of(EC))
    earlier.write_text(public_pem_of(OTHER_EC))
    settings = AuthSettings(
        _env_file=None,
        jwt_algorithm="ES256",
        jwt_private_key=str(present),
        jwt_previous_keys=[str(earlier), pem_of(EC)],
    )
    values = {name.lower(): value for name, value in rotated_keys(settings, keep=3).items()}
    after = AuthSettings(_env_file=None, jwt_algorithm="ES256", **values)
    assert key_set(after).verifying.keys() > key_set(settings).verifying.keys()


BYTES = (
    b"\xef\xbb\xbf# a comment\r\n\r\n  export JWT_SECRET='" + SECRET.encode() + b"' # mine\r\n"
    b'BROKEN LINE\r\nNAME=\xc3\xa4\r\nSMTP_PASSWORD="a\'b"\r\nLAST=1'
)


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o640, False), (0o644, True)])
def test_a_file_of_keys_that_everyone_can_read_is_told_and_none_is_widened(
    mode: int, warned: bool, env_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    env_file.chmod(mode)
    assert main(["keys", "rotate", "--env-file", str(env_file)]) == 0
    assert env_file.stat().st_mode & 0o777 == mode
    assert (f"can read {env_file}" in capsys.readouterr().err) == warned


def test_every_other_byte_of_the_file_stays_and_so_does_its_mode(env_file: Path, tmp_path: Path) -> None:
    env_file.write_bytes(BYTES)
    env_file.chmod(0o640)
    link = tmp_path / "link"
    link.symlink_to(env_file)
    assert main(["keys", "rotate", "--env-file", str(link)]) == 0
    assert link.is_symlink()
    assert env_file.stat().st_mode & 0o777 == 0o640
    after = env_file.read_bytes()
    lines, before = after.split(b"\r\n"), BYTES.split(b"\r\n")
    assert [line for line in lines if b"JWT_" not in line][:-1] == [
        line for line in before if b"JWT_" not in line
    ]
    assert lines[2].startswith(b"  export JWT_SECRET=")
    assert SECRET.encode() not in lines[2]
    assert lines[-2] == b"AUTH_JWT_PREVIOUS_KEYS=" + SECRET.encode()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".env", "link"]


def test_without_a_file_the_lines_are_printed_and_nothing_is_written(env_file: Path, tmp_path: Path) -> None:
    """As an operator starts it."""
    command = [sys.executable, "-m", "fastapi_pluggable_auth", "keys", "rotate"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=tmp_path, env=dict(os.environ)
    )
    secret, previous = done.stdout.splitlines()
    assert secret.startswith("AUTH_JWT_SECRET=")
    assert len(secret) > 64
    assert previous == f"AUTH_JWT_PREVIOUS_KEYS={SECRET}"
    assert "expire 7 days later (2" in done.stderr
    assert env_file.read_text() == f"JWT_SECRET={SECRET}\n"


def test_with_a_file_no_secret_is_printed(env_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "rotate", "--env-file", str(env_file)]) == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert not [value for value in dotenv_values(env_file).values() if value and value in printed.err]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "missing.env: No such file or directory."),
        ("JWT_SECRET=with,a,comma,that,is,32,characters,long\n", "comma"),
        ('JWT_SECRET="two \'$ {quotes} and more of it #"\n', "cannot hold one of the values"),
        ("JWT_ALGORITHM=RS256\n", "JWT_PRIVATE_KEY is not set"),
        ("JWT_ALGORITHM=none\n", "JWT_ALGORITHM: Input should be"),
    ],
)
def test_what_cannot_be_rotated_is_said_and_nothing_is_changed(
    content: str | None, says: str, env_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        env_file.write_text(content)
    path = env_file if content is not None else tmp_path / "missing.env"
    assert main(["keys", "rotate", "--env-file", str(path)]) == 1
    assert says in capsys.readouterr().err
    assert content is None or env_file.read_text() == content
    assert [each.name for each in tmp_path.iterdir()] == [".env"]


def test_a_file_that_does_not_count_is_not_changed(
    env_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("jwt_secret", SECRET)
    assert main(["keys", "rotate", "--env-file", str(env_file)]) == 1
    assert "JWT_SECRET is set in the environment" in capsys.readouterr().err
    assert env_file.read_text() == f"JWT_SECRET={SECRET}\n"


OLD = SECRET[::-1]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (f"JWT_SECRET={OLD}", ["JWT_SECRET", "AUTH_JWT_PREVIOUS_KEYS"]),
        (f"AUTH_JWT_SECRET={OLD}", ["AUTH_JWT_SECRET", "AUTH_JWT_PREVIOUS_KEYS"]),
        (
            f"JWT_SECRET={SECRET}\nAUTH_JWT_SECRET={OLD}",
            ["JWT_SECRET", "AUTH_JWT_SECRET", "AUTH_JWT_PREVIOUS_KEYS"],
        ),
        (
            f"JWT_PREVIOUS_KEYS={SECRET}\nauth_jwt_secret={OLD}",
            ["JWT_PREVIOUS_KEYS", "AUTH_JWT_SECRET", "AUTH_JWT_PREVIOUS_KEYS"],
        ),
    ],
)
def test_the_name_that_is_read_is_changed_and_no_other(before: str, after: list[str], env_file: Path) -> None:
    """A bare one stays so for what else reads the file."""
    env_file.write_text(f"{before}\n")
    assert main(["keys", "rotate", "--env-file", str(env_file)]) == 0
    assert [line.partition("=")[0] for line in env_file.read_text().splitlines()] == after
    settings = AuthSettings(_env_file=env_file)
    assert settings.jwt_secret not in (OLD, SECRET)
    assert settings.jwt_previous_keys == [OLD]
    if len(after) == 3:
        assert dotenv_values(env_file)[after[0]] == SECRET


def test_a_bare_name_of_the_environment_does_not_count_for_more_than_the_prefix(
    env_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    env_file.write_text(f"AUTH_JWT_SECRET={SECRET}\n")
    monkeypatch.setenv("JWT_SECRET", OLD)
    assert main(["keys", "rotate", "--env-file", str(env_file)]) == 0
    settings = AuthSettings(_env_file=env_file)
    assert (settings.jwt_secret not in (OLD, SECRET), settings.jwt_previous_keys) == (True, [SECRET])
    monkeypatch.setenv("AUTH_JWT_SECRET", SECRET)
    assert main(["keys", "rotate", "--env-file", str(env_file)]) == 1
    assert "AUTH_JWT_SECRET is set in the environment" in capsys.readouterr().err
