"""docs/security.md and docs/reference/asvs.md are true: every row names tests that exist, and the tests name
the row."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastapi_pluggable_auth.events import EventKind, Observation, Outcome

from .shipped import ALL_EVENT_KINDS
from .snippets import blocks

TESTS = Path(__file__).parent
DOCS = TESTS.parent / "docs"
DOCUMENT = (DOCS / "security.md").read_text("utf-8")
SHOWN = (DOCS / "reference" / "asvs.md").read_text("utf-8")


def section(title: str, page: str = DOCUMENT) -> str:
    return page.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def rows(text: str) -> list[list[str]]:
    """The cells of each row of the section's tables, without heads and rulers."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]
    return [row for row in cells if row[0] not in ("requirement", "row", "rows", "event", "duty", "attack")]


def named_tests(cell: str) -> list[str]:
    return re.findall(r"`(test_\w+\.py::test_\w+)`", cell)


def expanded(text: str) -> Iterator[str]:
    """The row ids that a text names, `A-02 to A-04` being three."""
    for kind, first, _, last in re.findall(r"\b([ARH])-(\d\d)(?: to ([ARH])-(\d\d))?", text):
        for number in range(int(first), int(last or first) + 1):
            yield f"{kind}-{number:02}"


ATTACKS = rows(section("Attacks, races and faults", SHOWN))
ASVS = rows(section("ASVS 5.0", SHOWN))
HELD = {row[0]: named_tests(row[2]) for row in ATTACKS if len(row) == 3}
EXCUSED = [row for row in ATTACKS if len(row) == 2]


@pytest.fixture(scope="module")
def docstrings() -> dict[str, str]:
    """Of every test there is, by file and name."""
    found = {}
    for path in TESTS.glob("test_*.py"):
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                found[f"{path.name}::{node.name}"] = ast.get_docstring(node) or ""
    return found


def test_every_requirement_has_a_level_and_tests_that_exist(docstrings: dict[str, str]) -> None:
    """And the build fails where one is missing."""
    assert len(ASVS) > 100
    for requirement, level, how, tests in ASVS:
        assert re.fullmatch(r"V\d+\.\d+\.\d+", requirement)
        assert level in ("1", "2", "3")
        assert len(how) > 20
        assert named_tests(tests), requirement
        assert set(named_tests(tests)) <= docstrings.keys(), requirement


def test_every_attack_on_the_oauth_server_names_tests_that_exist(docstrings: dict[str, str]) -> None:
    attacks = rows(section("Attacks", (DOCS / "oauth-server.md").read_text("utf-8")))
    assert len(attacks) > 15
    for attack, _, tests in attacks:
        assert named_tests(tests), attack
        assert set(named_tests(tests)) <= docstrings.keys(), attack


def test_every_attack_names_tests_and_they_name_it(docstrings: dict[str, str]) -> None:
    for row, tests in HELD.items():
        assert tests, row
        for test in tests:
            assert row in expanded(docstrings[test]), (row, test)


def test_no_attack_is_left_out_and_the_count_is_right() -> None:
    excused = {row for cells in EXCUSED for row in expanded(cells[0])}
    assert all(len(cells[1]) > 20 for cells in EXCUSED)
    known = {f"A-{n:02}" for n in range(1, 96)} | {f"R-{n:02}" for n in range(1, 52)}
    known |= {f"H-{n:02}" for n in range(1, 9)}
    assert not HELD.keys() & excused
    opened = known - HELD.keys() - excused
    counts = f"Held: {len(HELD)}. Not applicable: {len(excused)}. Open: {len(opened)}."
    assert counts in SHOWN
    assert opened == set()


def test_a_test_that_cites_a_row_cites_one_there_is(docstrings: dict[str, str]) -> None:
    known = HELD.keys() | {row for cells in EXCUSED for row in expanded(cells[0])}
    for test, text in docstrings.items():
        assert set(expanded(text)) <= known, test


def test_every_event_is_documented() -> None:
    named = [row[0].strip("`") for row in rows(section("Events"))]
    assert named == list(ALL_EVENT_KINDS)


def test_every_duty_of_the_host_is_named() -> None:
    duties = {row[0][:4] for row in rows(section("Left to your app"))}
    assert duties == {f"H-{number:02}" for number in range(1, 9)}


async def test_the_listener_of_the_document_hears_of_theft(capsys: pytest.CaptureFixture[str]) -> None:
    module: dict[str, Any] = {}
    (code,) = blocks("python", DOCUMENT)
    exec(code, module)
    events = module["auth"].events
    await events.emit(EventKind.LOGIN, Outcome.SUCCESS, Observation())
    assert capsys.readouterr().out == ""
    await events.emit(EventKind.REFRESH_REUSE, Outcome.FAILURE, Observation())
    assert capsys.readouterr().out.startswith("A token was stolen from None at ")
