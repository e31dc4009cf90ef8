"""The house: imports point down, and each third-party library is imported in one file."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import fastapi_pluggable_auth

PACKAGE = Path(fastapi_pluggable_auth.__file__).parent
FLOORS = (
    {"config", "errors", "failures"},
    {"security"},
    {"events", "rounds"},
    {"database"},
    {"models"},
    {"migrations", "compiled", "hooks", "autonomous", "poolers"},
    {"queries", "afterwards"},
    {"email", "audit"},
    {"auth"},
    {"lookup"},
    {"flows"},
    {"schemas"},
    {"cookies", "host_transactions"},
    {"dependencies"},
    {"authorization", "websocket"},
    {"routes"},
    {"plugin"},
    {"demo", "testing", "__init__"},
    {"commands"},
    {"cli"},
    {"__main__"},
)
HIDDEN_LIBRARIES = {
    "jose",
    "passlib",
    "pyotp",
    "qrcode",
    "aiosmtplib",
    "email_validator",
    "zxcvbn",
    "tqdm",
    "dotenv",
    "pytest",
    "pytest_asyncio",
}


def floor_of(module: str) -> int:
    return next(level for level, names in enumerate(FLOORS) if module in names)


def imports_of(path: Path) -> list[tuple[str, bool]]:
    """The modules a file imports: (name, whether it is one of ours, seen from the package)."""
    found = []
    depth = len(path.relative_to(PACKAGE).parts)
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, False) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.append((node.module or "", False))
        elif isinstance(node, ast.ImportFrom) and node.level == depth:
            names = [node.module] if node.module else [alias.name for alias in node.names]
            found += [(name, True) for name in names]
    return found


def test_imports_point_down() -> None:
    for path in PACKAGE.rglob("*.py"):
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for name, ours in imports_of(path):
            if ours:
                imported = name.split(".")[0]
                assert imported == own or floor_of(imported) < floor_of(own), f"{path} imports {name}"


def test_each_hidden_library_is_imported_in_one_file() -> None:
    importers = defaultdict(set)
    for path in PACKAGE.rglob("*.py"):
        for name, ours in imports_of(path):
            root = name.split(".")[0]
            if not ours and root in HIDDEN_LIBRARIES:
                importers[root].add(path.name)
    assert set(importers) == HIDDEN_LIBRARIES
    assert {library: files for library, files in importers.items() if len(files) > 1} == {}


def test_flows_know_no_http_and_security_knows_no_database() -> None:
    for folder, forbidden in (("flows", ("fastapi", "starlette")), ("security", ("fastapi", "tortoise"))):
        for path in (PACKAGE / folder).glob("*.py"):
            roots = {name.split(".")[0] for name, ours in imports_of(path) if not ours}
            assert not roots & set(forbidden), path


READS = {"get", "get_or_none", "get_or_create", "in_bulk"}
TEXTS = {"email", "username", "digest"}


def test_a_row_is_looked_up_in_one_place_only() -> None:
    """`models.exact`, which compares what was found: what a database takes for equal may not be, and a pooler
    may answer with the row of another query."""
    found = []
    for path in {*PACKAGE.rglob("*.py")} - {PACKAGE / "testing.py"}:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and not node.args:
                called = getattr(node.func, "attr", getattr(node.func, "id", ""))
                names = {keyword.arg for keyword in node.keywords}
                if (called in READS and names) or (called == "Q" and names & TEXTS):
                    found.append(f"{path.relative_to(PACKAGE)} {called}")
    assert found == ["models/lookups.py get_or_none"]
