"""What installs the package: pip, uv and Poetry."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
APP = """
[project]
name = "app"
version = "1"
requires-python = ">=3.11"
dependencies = ["fastapi-pluggable-auth[postgres,redis]"]

[tool.poetry]
package-mode = false

[tool.poetry.dependencies]
fastapi-pluggable-auth = { path = "../project" }

# The index that mirrors have too.
[[tool.poetry.source]]
name = "simple"
url = "https://pypi.org/simple/"

[tool.uv.sources]
fastapi-pluggable-auth = { path = "../project" }
"""

BROUGHT = {
    "anyio": "fastapi",
    "coverage": "pytest-cov",
    "opentelemetry-api": "opentelemetry-sdk",
    "pillow": "qrcode",
    "starlette": "fastapi",
}
"""What others need whatever their version, and what is imported for their sake."""


def named(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=!; ]", each, maxsplit=1)[0].lower() for each in requirements}


def imported(statements: list[ast.stmt]) -> Iterator[str]:
    """The modules that they import themselves, neither for types alone nor within a function."""
    for statement in statements:
        if isinstance(statement, ast.Import):
            yield from (each.name for each in statement.names)
        elif isinstance(statement, ast.ImportFrom) and not statement.level:
            yield statement.module or ""


def test_what_the_tests_and_examples_import_is_in_their_extra() -> None:
    """Else they run only where another extra, or what it needs, has brought it."""
    extra = named(PROJECT["dependencies"]) | named(PROJECT["optional-dependencies"]["test"])
    installed = packages_distributions()
    seen, missing = set(), set()
    for folder in ("tests", "examples"):
        for path in (ROOT / folder).rglob("*.py"):
            for module in imported(ast.parse(path.read_text("utf-8")).body):
                top = module.partition(".")[0]
                packages = {re.sub(r"[._]", "-", each).lower() for each in installed.get(top, ())}
                packages -= {PROJECT["name"]}
                seen |= packages
                if packages and not {BROUGHT.get(each, each) for each in packages} & extra:
                    missing.add((path.name, module))
    assert missing == set()
    assert len(seen) > 25


def test_no_extra_names_the_package_itself() -> None:
    """Poetry takes that for a package to be found elsewhere."""
    lists = PROJECT["optional-dependencies"].values()
    packages = set().union(*(named(extra) for extra in lists))
    assert len(packages) > 20
    assert PROJECT["name"] not in packages


def test_the_extra_for_developers_has_all_that_the_tests_and_pages_need() -> None:
    extras = {name: {*packages} for name, packages in PROJECT["optional-dependencies"].items()}
    assert extras["dev"] >= extras["test"] | extras["browser"] | extras["docs"]
    for name in (
        "argon2",
        "limits",
        "redis",
        "postgres",
        "mysql",
        "demo",
        "cli",
        "passkeys",
        "social",
        "metrics",
    ):
        assert extras["test"] >= extras[name], name


def test_what_a_reader_is_told_to_install_is_this_version() -> None:
    """Before its release, that is a clone: the name alone gets 0.1 from PyPI. Afterwards, it is the name."""
    released = (
        "(unreleased)" not in re.findall(r"^## .*", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)[0]
    )
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("README.md")]
    by_name, by_clone = [], []
    for page in [*pages, *(ROOT / "examples").rglob("Dockerfile")]:
        text = page.read_text("utf-8")
        for command in re.findall(r"\bpip install [^`\n]*", text if page.stem != "development" else ""):
            if re.search(r"(?<![/\w])fastapi-pluggable-auth", command):
                by_name.append((page.name, command))
            elif re.search(r"\.\./(\.\.|fastapi-pluggable-auth)", command):
                by_clone.append((page.name, command))
    assert (by_clone if released else by_name) == []
    assert len(by_name if released else by_clone) > 8


@pytest.mark.full
@pytest.mark.parametrize("tool", ["poetry", "uv"])
def test_other_installers_resolve_an_app_with_the_package(tool: str, tmp_path: Path) -> None:
    """Each from PyPI, into an environment of its own. Poetry takes minutes to lock the package itself, as it
    goes through all combinations of what stands in more than one extra: its check has to do."""
    tools, project, app = tmp_path / "tools", tmp_path / "project", tmp_path / "app"
    subprocess.run([sys.executable, "-m", "venv", tools], check=True)
    pip = [tools / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", tool]
    subprocess.run(pip, check=True, timeout=300)
    project.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, project)
    shutil.copytree(ROOT / "fastapi_pluggable_auth", project / "fastapi_pluggable_auth")
    app.mkdir()
    (app / "pyproject.toml").write_text(APP)
    commands = {
        "poetry": [(project, ["check"]), (app, ["lock", "-n"]), (app, ["install", "-n", "--dry-run"])],
        "uv": [(project, ["lock"]), (app, ["lock"]), (app, ["sync", "--dry-run"])],
    }[tool]
    environment = {**os.environ, "POETRY_VIRTUALENVS_IN_PROJECT": "true"}
    environment.pop("VIRTUAL_ENV", None)
    for folder, arguments in commands:
        done = subprocess.run(
            [tools / "bin" / tool, *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
