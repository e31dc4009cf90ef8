"""The house: imports point down, and each third-party library is imported in one file."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import fastapi_pluggable_auth

PACKAGE = Path(fastapi_pluggable_auth.__file__).parent
FLOORS = (
    {"config", "errors", "failures", "arguments", "_frameworks"},
    {"security", "words"},
    {"events", "rounds", "measurements"},
    {"database"},
    {"models"},
    {"migrations", "compiled", "hooks", "autonomous", "poolers"},
    {"shared_reads"},
    {"queries", "afterwards", "readiness", "features.feature"},
    {"email"},
    {"auth"},
    {"lookup", "advice", "metrics"},
    {"flows"},
    {"schemas"},
    {"host_transactions"},
    {"http"},
    {"dependencies"},
    {"authorization", "websocket", "openapi"},
    {"routes"},
    {"features"},
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
    "pypika_tortoise",
    "dotenv",
    "pytest",
    "pytest_asyncio",
    "prometheus_client",
}


NAME = PACKAGE.name
MODULES = {
    ".".join((NAME, *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}
"""Every module of the package by its full name."""


MAY_IMPORT_FEATURES = (
    *("plugin", "models", "migrations", "commands", "testing", "demo", "routes.twofa", "features"),
    "auth",  # what every app has, and every script
)
"""All others know what a feature is, and none of them. Some of these are above, and say it at the top; others
stand beneath, and import when they are called."""


def floor_of(module: str) -> int:
    """Of a full name."""
    name = module.partition(".")[2] or "__init__"
    levels = {each: level for level, names in enumerate(FLOORS) for each in names}
    return levels[name if name in levels else name.split(".")[0]]


def is_beneath(module: str, *names: str) -> bool:
    """Whether a module is one of these, or inside one."""
    return any(module == f"{NAME}.{name}" or module.startswith(f"{NAME}.{name}.") for name in names)


def is_for_types_only(node: ast.AST) -> bool:
    """Whether this is `if TYPE_CHECKING:`, beneath which nothing is ever run."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imports_of(module: str) -> set[str]:
    """The full names of what a module imports: modules where they are ours, else as they are written. The
    packages of features have lazy names, which are imported for type checkers only."""
    found = set()
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    tree = ast.parse(path.read_text("utf-8"))
    if path.name == "__init__.py" and is_beneath(module, "features"):
        tree.body = [node for node in tree.body if not is_for_types_only(node)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            whole = ".".join([*base, *([node.module] if node.module else [])])
            named = {f"{whole}.{alias.name}" for alias in node.names}
            # `from .email import outbox` is the module, `from .email import MailError` its package.
            found |= {name if name in MODULES else whole for name in named}
    return found


def ours(names: set[str]) -> set[str]:
    """Those of the package."""
    return {name for name in names if name.split(".")[0] == NAME}


def libraries(module: str) -> set[str]:
    """What a module imports from elsewhere, by the first name."""
    return {name.split(".")[0] for name in imports_of(module)} - {NAME}


def test_every_import_is_resolved() -> None:
    """Else one that is not understood would be allowed."""
    resolved = {name: ours(imports_of(name)) for name in MODULES}
    assert not {name for names in resolved.values() for name in names} - MODULES.keys()
    assert f"{NAME}.flows.authentication" in resolved[f"{NAME}.flows.sessions"]
    assert f"{NAME}.models" in resolved[f"{NAME}.flows.sessions"]
    assert f"{NAME}.email.kinds" in resolved[f"{NAME}.flows.sessions"]
    assert f"{NAME}.http.browsers" in resolved[f"{NAME}.routes.pages.links"]


def test_imports_point_down() -> None:
    wrong = [
        f"{module} imports {name}"
        for module in MODULES
        for name in ours(imports_of(module))
        if name.split(".")[:2] != module.split(".")[:2] and floor_of(name) >= floor_of(module)
        if not (is_beneath(name, "features") and is_beneath(module, *MAY_IMPORT_FEATURES))
    ]
    assert not wrong


def parts_of_features() -> Iterator[tuple[str, str]]:
    """Every module in the folder of a feature, with what it is there by the end of its name: models, routes,
    more routes in `admin_routes` ..."""
    for module in MODULES:
        inside = module.removeprefix(f"{NAME}.features.").split(".")
        if module.startswith(f"{NAME}.features.") and len(inside) > 1:
            yield module, inside[1].rpartition("_")[2]


INSIDE = ("models", "flows", "schemas", "routes", "pages", "feature")
"""The floors of a feature. What has another name stands with its flows."""


def test_imports_inside_a_feature_point_down() -> None:
    levels = {
        module: INSIDE.index(part if part in INSIDE else "flows") for module, part in parts_of_features()
    }
    assert levels
    assert not [
        f"{module} imports {name}"
        for module in levels
        for name in imports_of(module) & levels.keys()
        if levels[name] > levels[module]
    ]


def test_the_tables_of_a_feature_bring_nothing_else_of_it() -> None:
    """The models of every app are imported by each; those of a feature need what all models need."""
    tables = [module for module, part in parts_of_features() if part == "models"]
    assert tables
    assert not [
        f"{module} imports {name}"
        for module in tables
        for name in ours(imports_of(module))
        if floor_of(name) > floor_of(f"{NAME}.models") and name not in tables
    ]
    packages = [module for module, path in MODULES.items() if path.name == "__init__.py"]
    assert not [
        f"{package} imports {name}"
        for package in packages
        if is_beneath(package, "features")
        for name in ours(imports_of(package))
    ]


def test_the_kernel_knows_no_feature() -> None:
    features = {name for name in MODULES if is_beneath(name, "features")} - {f"{NAME}.features.feature"}
    assert features
    assert not [
        f"{module} imports {name}"
        for module in MODULES
        if not is_beneath(module, *MAY_IMPORT_FEATURES)
        for name in imports_of(module) & features
    ]


def test_inside_a_folder_no_two_modules_need_each_other() -> None:
    beside = {
        module: {
            name
            for name in ours(imports_of(module))
            # What a package gathers for others is beneath none of its modules.
            if name.split(".")[:2] == module.split(".")[:2] and MODULES[name].name != "__init__.py"
        }
        for module, path in MODULES.items()
        if path.name != "__init__.py"
    }
    assert sum(map(len, beside.values())) > 100
    try:
        [*TopologicalSorter(beside).static_order()]
    except CycleError as error:
        raise AssertionError(f"these import each other: {error.args[1]}") from error


def test_each_hidden_library_is_imported_in_one_file() -> None:
    importers = defaultdict(set)
    for module in MODULES:
        for library in libraries(module) & HIDDEN_LIBRARIES:
            importers[library].add(module)
    assert set(importers) == HIDDEN_LIBRARIES
    assert {library: files for library, files in importers.items() if len(files) > 1} == {}


def test_flows_know_no_http_and_security_knows_no_database() -> None:
    forbidden = {"flows": {"fastapi", "starlette"}, "security": {"fastapi", "starlette", "tortoise"}}
    http = {"routes", "pages", "feature"}
    for folder, names in forbidden.items():
        inside = [module for module in MODULES if module.startswith(f"{NAME}.{folder}.")]
        if folder == "flows":
            inside += [module for module, part in parts_of_features() if part not in http]
        assert inside
        assert not {module: found for module in inside if (found := libraries(module) & names)}


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
