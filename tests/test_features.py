"""What a feature brings to an app by one value."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import FrozenInstanceError, dataclass
from pathlib import Path

import pytest
from fastapi import FastAPI
from pydantic import ValidationError

from fastapi_pluggable_auth import Auth, AuthSettings, Refused, features, include_auth
from fastapi_pluggable_auth.config import Settings
from fastapi_pluggable_auth.errors import ErrorTable
from fastapi_pluggable_auth.events import EventTable
from fastapi_pluggable_auth.features import passkeys
from fastapi_pluggable_auth.features.feature import Feature, Slot
from fastapi_pluggable_auth.hooks import AfterEvent, BeforeLogin, Event, HookError

SECRET = "a-secret-of-the-tests-that-is-long-enough-1"
SETTINGS = AuthSettings(jwt_secret=SECRET)


def test_each_public_name_is_imported_when_it_is_used() -> None:
    """An app without a feature does not pay for it; two-factor is one that every app has."""
    for name in features.__all__:
        assert getattr(features, name) is not None, name
    with pytest.raises(AttributeError, match="has no attribute 'Passkey'"):
        features.Passkey  # type: ignore[attr-defined]  # noqa: B018
    loaded = (
        "import sys, fastapi_pluggable_auth;"
        "from fastapi_pluggable_auth.features import Feature;"
        "print(*(each for each in sys.modules if each.startswith('fastapi_pluggable_auth.features.')))"
    )
    told = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True).stdout
    inside = [each for each in told.split() if each.count(".") > 2 and ".two_factor." not in each]
    parts = {each.rpartition(".")[2] for each in inside}
    assert parts == {"models"}


def test_the_names_of_passkeys_are_imported_without_their_library() -> None:
    for name in passkeys.__all__:
        assert getattr(passkeys, name) is not None, name
    with pytest.raises(AttributeError, match="has no attribute 'PasskeyLost'"):
        passkeys.PasskeyLost  # type: ignore[attr-defined]  # noqa: B018
    work = (
        "import sys; sys.modules['fido2'] = None;"
        "from fastapi_pluggable_auth.features.passkeys import PasskeyAdded, PasskeySettings"
    )
    subprocess.run([sys.executable, "-c", work], check=True)


def test_a_value_of_a_feature_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        features.PersonalTokens(scopes={"read": "Read"}).scopes = {}  # type: ignore[misc]


def test_two_features_of_one_name_are_refused_at_the_start() -> None:
    with pytest.raises(
        ValueError, match="The name 'notes' is that of the feature notes and of the feature notes"
    ):
        Auth(SETTINGS, features=[Feature(name="notes"), Feature(name="notes")])


def test_a_feature_comes_with_those_that_it_requires() -> None:
    notes = Feature(name="notes", requires=("folders",))
    with pytest.raises(ValueError, match="The feature notes requires folders"):
        Auth(SETTINGS, features=[notes])
    auth = Auth(SETTINGS, features=[notes, Feature(name="folders")])
    assert [feature.name for feature in auth.features] == ["two_factor", "notes", "folders"]
    assert "folders" in auth.features
    assert "passkeys" not in auth.features


class NoteSettings(Settings):
    """What a feature reads."""

    notes_per_day: int = 3


async def test_a_feature_has_settings_of_its_own_that_are_read_with_the_app(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AUTH_NOTES_PER_DAY", "5")
    monkeypatch.setenv("AUTH_NOTES_PER_DYA", "6")
    notes = Feature(name="notes", settings=NoteSettings)
    auth = include_auth(FastAPI(), settings=AuthSettings(jwt_secret=SECRET), features=[notes])
    assert auth.features.settings_of(NoteSettings).notes_per_day == 5
    said = [line for line in caplog.messages if "NOTES" in line]
    assert said == ["AUTH_NOTES_PER_DYA is not a setting, and is ignored: did you mean AUTH_NOTES_PER_DAY?"]
    given = NoteSettings(notes_per_day=7)
    other = Auth(SETTINGS, features=[Feature(name="notes", settings=given)])
    assert other.features.settings_of(NoteSettings) is given
    monkeypatch.setenv("AUTH_NOTES_PER_DAY", "many")
    with pytest.raises(ValidationError, match="AUTH_NOTES_PER_DAY"):
        Auth(SETTINGS, features=[notes])
    with pytest.raises(LookupError, match="No feature of this app has the settings NoteSettings"):
        Auth(SETTINGS).features.settings_of(NoteSettings)


def test_a_setting_that_another_has_is_refused_at_the_start() -> None:
    class Taken(Settings):
        cookies: int = 3

    with pytest.raises(ValueError, match="setting 'cookies' is that of the library and of the feature x"):
        Auth(SETTINGS, features=[Feature(name="x", settings=Taken)])


class NoteError(ErrorTable):
    """Codes of a feature."""

    NOTE_LOST = (404, "There is no such note.")


class OtherError(ErrorTable):
    """One that another feature, or the library, has too."""

    NOTE_LOST = (410, "The note has gone.")


class KernelError(ErrorTable):
    """One that the library has."""

    THROTTLED = (429, "Not so fast.")


def test_a_code_that_another_has_is_refused_at_the_start() -> None:
    notes = Feature(name="notes", errors=NoteError)
    with pytest.raises(
        ValueError, match="error code 'note_lost' is that of the feature notes and of the feature x"
    ):
        Auth(SETTINGS, features=[notes, Feature(name="x", errors=OtherError)])
    with pytest.raises(
        ValueError, match="error code 'throttled' is that of the library and of the feature x"
    ):
        Auth(SETTINGS, features=[notes, Feature(name="x", errors=KernelError)])


def test_two_codes_of_one_table_differ_and_fit_the_audit_log() -> None:
    with pytest.raises(ValueError, match="duplicate values"):
        ErrorTable("Twice", {"ONE": (400, "No."), "TWO": (400, "No.")})
    with pytest.raises(ValueError, match="more than 64 characters"):
        ErrorTable("Long", {"X" * 65: (400, "No.")})


async def test_a_hook_refuses_with_no_code_of_a_feature() -> None:
    auth = Auth(SETTINGS, features=[Feature(name="notes", errors=NoteError)])

    @auth.on(BeforeLogin)
    def refuse(event: BeforeLogin) -> None:
        raise Refused("No.", code="note_lost")

    with pytest.raises(HookError) as failed:
        await auth.hooks.fire(BeforeLogin, auth.tables.user())
    assert "'note_lost' is the code of a feature" in str(failed.value.__cause__)


class NoteEventKind(EventTable):
    """Security events of a feature."""

    NOTE_SHARED = "note_shared"


def test_an_event_that_another_has_is_refused_at_the_start() -> None:
    notes = Feature(name="notes", events=NoteEventKind)
    other = EventTable("Other", {"LOGIN": "login"})  # type: ignore[call-overload]  # mypy wants it by a class
    with pytest.raises(
        ValueError, match="security event 'login' is that of the library and of the feature x"
    ):
        Auth(SETTINGS, features=[notes, Feature(name="x", events=other)])
    with pytest.raises(ValueError, match="security event 'note_shared' is that of the feature notes"):
        Auth(SETTINGS, features=[notes, Feature(name="x", events=NoteEventKind)])


def test_a_kind_of_event_fits_the_audit_log() -> None:
    with pytest.raises(ValueError, match="more than 32 characters"):
        EventTable("Long", {"LONG": "x" * 33})  # type: ignore[call-overload]


@dataclass(frozen=True, slots=True)
class NoteShared(AfterEvent):
    """A hook of a feature."""

    note: str


async def test_a_feature_hears_and_fires_hooks() -> None:
    heard: list[object] = []
    notes = Feature(name="notes", hooks=((Event, lambda auth, event: heard.append((auth, event))),))
    auth = Auth(SETTINGS, features=[notes])
    auth.on(NoteShared)(heard.append)
    event = NoteShared("Groceries")
    await auth.hooks.fire(NoteShared, "Groceries")
    assert heard == [(auth, event), event]


def test_a_template_that_is_not_there_or_that_another_has_is_refused_at_the_start(tmp_path: Path) -> None:
    """Else the sign-in page would break, or show what belongs to another feature."""
    slots = (Slot(place="sign_in", template="panel.html"),)
    with pytest.raises(ValueError, match=r"The feature notes has no template panel\.html"):
        Auth(SETTINGS, features=[Feature(name="notes", slots=slots)])
    with pytest.raises(ValueError, match=r"The feature notes has no template panel\.html"):
        Auth(SETTINGS, features=[Feature(name="notes", slots=slots, templates=tmp_path)])
    notes, other = (tmp_path / name for name in ("notes", "other"))
    for folder in (notes, other):
        folder.mkdir()
        (folder / "panel.html").write_text("<p>Here</p>")
    Auth(SETTINGS, features=[Feature(name="notes", slots=slots, templates=notes)])
    with pytest.raises(
        ValueError, match=r"template 'panel\.html' is that of the feature notes and of the fea"
    ):
        Auth(SETTINGS, features=[Feature(name=each.name, templates=each) for each in (notes, other)])


def test_a_slot_is_in_a_place_that_there_is() -> None:
    with pytest.raises(ValueError, match="'signin' is not a place in the pages: sign_in"):
        Slot(place="signin", template="panel.html")  # type: ignore[arg-type]  # the mistake

    async def values(auth: object, authentication: object) -> dict[str, object]:
        return {}

    with pytest.raises(ValueError, match="gets no user in the place 'sign_in'"):
        Slot(place="sign_in", template="panel.html", values=values)
