"""What a feature brings to an app by one value."""

from __future__ import annotations

import pytest

from fastapi_pluggable_auth import Auth, AuthSettings, Refused
from fastapi_pluggable_auth.errors import ErrorTable
from fastapi_pluggable_auth.features.feature import Feature
from fastapi_pluggable_auth.hooks import BeforeLogin, HookError

SETTINGS = AuthSettings(jwt_secret="a-secret-of-the-tests-that-is-long-enough-1")


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
