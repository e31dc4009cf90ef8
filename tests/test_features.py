"""What a feature brings to an app by one value."""

from __future__ import annotations

import pytest

from fastapi_pluggable_auth import Auth, AuthSettings
from fastapi_pluggable_auth.features.feature import Feature

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
    assert [feature.name for feature in auth.features] == ["notes", "folders"]
    assert "folders" in auth.features
    assert "passkeys" not in auth.features
