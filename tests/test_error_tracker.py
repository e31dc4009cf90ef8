"""No secret reaches an error tracker with its defaults, wherever the database fails (ASVS 16.2.5, 14.2.6)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fastapi_pluggable_auth.schemas import ChangePassword, LoginData, UserCreate, taken
from fastapi_pluggable_auth.security.plaintext import Plaintext

from .conftest import EMAIL, PASSWORD
from .tracked import NEW_PASSWORD


def tracked(*arguments: str) -> dict[str, Any]:
    """What became known in each step."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.tracked", *arguments],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    steps: dict[str, Any] = json.loads(done.stdout)
    assert all(step["events"] >= (1 if "ninth" in arguments else 3) for step in steps.values()), steps
    return steps


@pytest.mark.parametrize("at", ["ninth", pytest.param("each", marks=pytest.mark.full)])
def test_frames_of_the_library_show_no_secret_while_the_database_fails(at: str) -> None:
    """At each ninth statement of a request, and in `.ci/full` at each."""
    steps = tracked(at)
    assert {name: step["ours"] for name, step in steps.items() if step["ours"]} == {}
    assert "password" in steps["login"]["anywhere"]  # in frames of FastAPI: the search finds what there is


@pytest.mark.full
def test_with_the_scrubber_of_the_docs_an_event_has_no_secret_anywhere() -> None:
    steps = tracked("scrubbed")
    assert {name: step["anywhere"] for name, step in steps.items() if step["anywhere"]} == {}


def test_a_secret_is_given_up_once_and_never_shown() -> None:
    secret = Plaintext(PASSWORD)
    assert Plaintext.of(secret) is secret
    assert secret.look() == PASSWORD
    assert PASSWORD not in f"{secret} {secret!r}"
    assert secret.take() == PASSWORD
    for again in (secret.look, secret.take):
        with pytest.raises(ValueError, match="taken"):
            again()


def test_a_body_shows_no_secret_and_is_empty_once_it_was_taken() -> None:
    bodies = (
        UserCreate(email=EMAIL, password=PASSWORD),
        LoginData(email=EMAIL, password=PASSWORD, code="123456"),
        ChangePassword(old_password=PASSWORD, new_password=NEW_PASSWORD),
    )
    for body in bodies:
        for secret in (PASSWORD, NEW_PASSWORD, "123456"):
            assert secret not in repr(body)
    assert taken(bodies[1], "password").take() == PASSWORD
    assert PASSWORD not in str(vars(bodies[1]))
    with pytest.raises(ValueError, match="at least 8") as short:
        UserCreate(email=EMAIL, password="tiny-1")
    assert "tiny-1" not in str(short.value)
