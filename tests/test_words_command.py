"""`words`: the one file that a translator needs."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from fastapi_pluggable_auth.cli import main
from fastapi_pluggable_auth.words.texts import read

DIALECTS = ("sqlite",)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The app's own."""
    monkeypatch.setenv("AUTH_TEMPLATE_DIR", str(tmp_path))
    (tmp_path / "words").mkdir()
    return tmp_path


def file_of(language: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["words", language]) == 0
    return capsys.readouterr().out


def test_a_language_is_written_as_the_library_reads_it(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With features, and nothing is missing."""
    with monkeypatch.context() as elsewhere:
        elsewhere.delenv("AUTH_TEMPLATE_DIR")
        made = file_of("de", capsys)
        assert main(["words", "de", "--missing"]) == 0
        assert capsys.readouterr().out == ""
    (folder / "words" / "de.toml").write_text(made)
    texts = read(folder / "words" / "de.toml")
    assert texts["sign_in.title"] == "Anmelden"
    assert texts["two_factor.name"] == "Zwei-Faktor-Authentisierung"
    assert file_of("de", capsys) == made


def test_what_is_missing_stands_below_the_english_text_for_each_plural(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "words" / "pl.toml").write_text('[sign_in]\ntitle = "Zaloguj \\"się\\""')
    made = file_of("pl", capsys)
    assert tomllib.loads(made)["sign_in"] == {"title": 'Zaloguj "się"'}
    assert '# Sign in\ntitle = "Zaloguj \\"się\\""\n' in made
    assert '# New here?\n#new = ""\n' in made
    assert [line for line in made.splitlines() if line.startswith("#hour_")] == [
        f'#hour_{each} = ""' for each in ("many", "one", "few", "other")
    ]
    assert main(["words", "pl", "--missing"]) == 1
    missing = capsys.readouterr().out.split()
    assert "sign_in.new" in missing
    assert "sign_in.title" not in missing


def test_a_language_is_no_path(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["words", "../fr"]) == 1
    assert "'../fr' is not a language" in capsys.readouterr().err
