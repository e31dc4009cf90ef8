"""Breaks the code on purpose, one place at a time, and says which breaks no test noticed.

    pytest -q --cov=fastapi_pluggable_auth --cov-config=/dev/null --cov-context=test --junitxml=times.xml
    python -m tests.mutants run .coverage times.xml results.jsonl
    python -m tests.mutants survivors results.jsonl

Every keyword of a filter is dropped; of all other mutants a sample is drawn. Each runs against the tests that
reach its lines, the fastest first, in a child of one process that has imported everything.
"""

from __future__ import annotations

import argparse
import ast
import copy
import gc
import json
import math
import os
import random
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import types
import xml.etree.ElementTree as ElementTree
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import coverage
import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = "fastapi_pluggable_auth"
PLACES = ("security", "flows", "email", "http", "dependencies.py", "authorization.py", "queries.py")
METHODS = {"filter", "exclude", "get", "get_or_none", "exists", "update", "delete", "first"}
FUNCTIONS = {"Q", "exact"}
SEED = 18
NAMES = re.compile(r"filter (id|user_id|session_id|digest|token|jti|\*\*|argument)")
"""What tells one row from another."""


FLIPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
TWINS = {"min": "max", "max": "min", "any": "all", "all": "any"}


@dataclass(frozen=True)
class Mutant:
    """One break: the `number`-th of its kind of edit at this node of the file."""

    file: str
    node: int
    edit: str
    line: int
    end: int
    before: str
    after: str

    @property
    def key(self) -> str:
        """What it is called."""
        return f"{self.file}:{self.line}:{self.node}:{self.edit}"

    @property
    def always(self) -> tuple[str, ...]:
        """Tests that it is run against whatever time they take: they look at many rows."""
        if not self.is_filter:
            return ()
        other = "bystander" if NAMES.match(self.edit) else "meanwhile"
        return "tests/test_own_rows.py", f"tests/test_{other}.py"

    @property
    def is_filter(self) -> bool:
        """Whether it drops a keyword of a filter."""
        return self.edit.startswith("filter ")


Edit = Callable[[Any], ast.AST | None]


def edits(node: ast.AST, parent: ast.AST | None) -> Iterator[tuple[str, Edit]]:
    """The ways to break this node. An edit changes a copy of it, or gives what takes its place."""
    if isinstance(node, ast.Call):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        filters = called in (METHODS if isinstance(node.func, ast.Attribute) else FUNCTIONS)
        if ".queries." in ast.unparse(node.func):
            return  # all that they are called with is required
        for index, keyword in enumerate(node.keywords):
            if filters or not called[:1].isupper():  # not of a dataclass: most are required
                name = f"{'filter' if filters else 'argument'} {keyword.arg or '**'}"
                yield name, lambda call, index=index: call.keywords.pop(index) and None
        for index in range(len(node.args) if filters and called in ("filter", "exclude", "Q") else 0):
            yield f"filter argument {index}", lambda call, index=index: call.args.pop(index) and None
        if called in TWINS and isinstance(node.func, ast.Name):
            yield "twin", lambda call: setattr(call.func, "id", TWINS[call.func.id])
    elif isinstance(node, ast.Compare):
        for index, operator in enumerate(node.ops):
            flipped = FLIPS[type(operator)]
            yield "flip", lambda compare, index=index, to=flipped: compare.ops.__setitem__(index, to())
            if isinstance(operator, ast.Lt | ast.LtE | ast.Gt | ast.GtE):
                turned = ast.GtE if isinstance(operator, ast.Lt | ast.LtE) else ast.Lt
                yield "turn", lambda compare, index=index, to=turned: compare.ops.__setitem__(index, to())
    elif isinstance(node, ast.BoolOp):
        yield "flip", lambda both: setattr(both, "op", FLIPS[type(both.op)]())
        for index in range(len(node.values)):
            yield f"operand {index}", lambda both, index=index: _without(both, index)
    elif isinstance(node, ast.BinOp) and type(node.op) in FLIPS and not _is_typing(parent):
        yield "flip", lambda both: setattr(both, "op", FLIPS[type(both.op)]())
        if isinstance(node.op, ast.BitAnd | ast.BitOr | ast.Sub):
            yield "left alone", lambda both: both.left
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.Invert):
        yield "negation", lambda not_: not_.operand
    elif isinstance(node, ast.If | ast.IfExp | ast.While):
        yield "condition", lambda branch: setattr(branch, "test", ast.UnaryOp(ast.Not(), branch.test))
    elif isinstance(node, ast.Raise | ast.AugAssign | ast.Continue | ast.Break) or (
        isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant | ast.Yield)
    ):
        yield "statement", lambda _: ast.Pass()
    elif isinstance(node, ast.Return) and node.value is not None:
        if not (isinstance(node.value, ast.Constant) and node.value.value is None):
            yield "return", lambda _: ast.Return(ast.Constant(None))
    elif isinstance(node, ast.Constant) and not isinstance(parent, ast.Expr | ast.Slice):
        if isinstance(node.value, bool):
            yield "constant", lambda constant: setattr(constant, "value", not constant.value)
        elif isinstance(node.value, int):
            yield "constant", lambda constant: setattr(constant, "value", constant.value + 1)


def _without(both: ast.BoolOp, index: int) -> ast.AST | None:
    both.values.pop(index)
    return both.values[0] if len(both.values) == 1 else None


def _is_typing(parent: ast.AST | None) -> bool:
    return isinstance(parent, ast.arg | ast.AnnAssign | ast.FunctionDef | ast.AsyncFunctionDef)


def mutants_of(file: str) -> Iterator[Mutant]:
    """Every mutant of a file of the package."""
    tree = ast.parse((ROOT / PACKAGE / file).read_text("utf-8"))
    for number, (node, parent, statement) in enumerate(_walk(tree)):
        for edit, change in edits(node, parent):
            changed = copy.deepcopy(node)
            changed = change(changed) or changed
            before, after = (ast.unparse(ast.fix_missing_locations(each)) for each in (node, changed))
            if before != after:
                end = statement.end_lineno or statement.lineno
                if isinstance(
                    statement, ast.If | ast.While | ast.With | ast.AsyncWith | ast.For | ast.AsyncFor
                ):
                    end = node.end_lineno or end  # type: ignore[attr-defined]  # nodes with edits have lines
                    end = min(end, statement.body[0].lineno - 1) if node is statement else end
                start = min(statement.lineno, end)
                yield Mutant(file, number, edit, start, max(start, end), before, after)


def _walk(tree: ast.Module) -> Iterator[tuple[ast.AST, ast.AST | None, Any]]:
    """Every node with its parent and its statement, in a fixed order, annotations left out."""
    stack: list[tuple[ast.AST, ast.AST | None, Any]] = [(tree, None, tree)]
    while stack:
        node, parent, statement = stack.pop()
        if isinstance(node, ast.stmt):
            statement = node
        yield node, parent, statement
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list"):
                continue
            children = value if isinstance(value, list) else [value]
            stack.extend((child, node, statement) for child in children if isinstance(child, ast.AST))


def source_of(mutant: Mutant) -> ast.Module:
    """The file with the break in it."""
    tree = ast.parse((ROOT / PACKAGE / mutant.file).read_text("utf-8"))
    for number, (node, parent, _) in enumerate(_walk(tree)):
        if number == mutant.node:
            for edit, change in edits(node, parent):
                trial = copy.deepcopy(node)
                trial = change(trial) or trial
                if edit == mutant.edit and ast.unparse(ast.fix_missing_locations(trial)) == mutant.after:
                    _put(tree, node, trial)
                    return ast.fix_missing_locations(tree)
    raise LookupError(mutant.key)


def _put(tree: ast.Module, old: ast.AST, new: ast.AST) -> None:
    ast.copy_location(new, old)
    for parent in ast.walk(tree):
        for name, value in ast.iter_fields(parent):
            if value is old:
                setattr(parent, name, new)
            elif isinstance(value, list):
                value[:] = [new if each is old else each for each in value]


def drawn(others: int) -> list[Mutant]:
    """All dropped filters, and so many of the others."""
    files = sorted(
        str(found.relative_to(ROOT / PACKAGE))
        for place in PLACES
        for found in [ROOT / PACKAGE / place, *(ROOT / PACKAGE / place).glob("**/*.py")]
        if found.is_file()
    )
    every = [mutant for file in files for mutant in mutants_of(file)]
    filters = [mutant for mutant in every if mutant.is_filter]
    rest = [mutant for mutant in every if not mutant.is_filter]
    return filters + random.Random(SEED).sample(rest, min(others, len(rest)))  # noqa: S311 - a sample


class Code:
    """Puts a mutant into the running process, by the code of the functions that there are."""

    def __init__(self) -> None:
        self._functions: dict[tuple[str, str, int], list[types.FunctionType]] = defaultdict(list)
        for each in gc.get_objects():
            if isinstance(each, types.FunctionType) and f"/{PACKAGE}/" in each.__code__.co_filename:
                code = each.__code__
                self._functions[code.co_filename, code.co_qualname, code.co_firstlineno].append(each)  # type: ignore[attr-defined]  # since Python 3.11

    def put(self, mutant: Mutant) -> bool:
        """False where a break is outside of functions, which only a new process can show."""
        path = str(ROOT / PACKAGE / mutant.file)
        old = compile(ast.parse(Path(path).read_text("utf-8")), path, "exec", dont_inherit=True)
        new = compile(source_of(mutant), path, "exec", dont_inherit=True)
        if _own(old) != _own(new):
            return False
        swaps: list[tuple[types.FunctionType, types.CodeType]] = []
        if not self._compare(path, old, new, swaps, covered=False):
            return False
        for function, code in swaps:
            if function.__code__.co_freevars != code.co_freevars:
                return False
        for function, code in swaps:
            function.__code__ = code
        return True

    def _compare(
        self, path: str, old: types.CodeType, new: types.CodeType, swaps: list[Any], *, covered: bool
    ) -> bool:
        pairs = zip(_inner(old), _inner(new), strict=False)
        if len(_inner(old)) != len(_inner(new)):
            return covered
        for before, after in pairs:
            if before == after:
                continue
            live = self._functions.get((path, before.co_qualname, before.co_firstlineno), [])  # type: ignore[attr-defined]
            swaps.extend((function, after) for function in live)
            here = covered or bool(live)
            if _own(before) != _own(after) and not here:
                return False
            if not self._compare(path, before, after, swaps, covered=here):
                return False
        return True


def _inner(code: types.CodeType) -> list[types.CodeType]:
    return [each for each in code.co_consts if isinstance(each, types.CodeType)]


def _own(code: types.CodeType) -> tuple[object, ...]:
    # By `repr`, as True is 1.
    consts = tuple(repr(each) for each in code.co_consts if not isinstance(each, types.CodeType))
    return code.co_code, consts, code.co_names, code.co_freevars, len(_inner(code))


class Tests:
    """Which tests reach a line, and how long they take."""

    def __init__(self, covered: Path, times: Path) -> None:
        self._data = coverage.CoverageData(str(covered))
        self._data.read()
        self._files = {name.partition(f"/{PACKAGE}/")[2]: name for name in self._data.measured_files()}
        self.seconds: dict[str, float] = {}
        for case in ElementTree.parse(times).iter("testcase"):  # noqa: S314 - our own file
            name = f"{case.attrib['classname'].replace('.', '/')}.py::{case.attrib['name']}"
            self.seconds[name] = float(case.attrib["time"])

    def of(self, mutant: Mutant) -> list[str]:
        """The tests that reach it, those of its own file and the fastest first: each function once, before
        others of its parameters. What runs while a module is imported is reached where it is named."""
        tests = self._on(mutant.file, range(mutant.line, mutant.end + 1))
        if not tests:
            for name in _assigned(mutant):
                for file in self._files:
                    lines = (ROOT / PACKAGE / file).read_text("utf-8").splitlines()
                    named = [n for n, line in enumerate(lines, 1) if re.search(rf"\b{name}\b", line)]
                    tests |= self._on(file, named)
        seen: Counter[str] = Counter()
        turns = {}
        for test in sorted(tests, key=lambda test: (self.seconds.get(test, 1), test)):
            seen[test.partition("[")[0]] += 1
            turns[test] = seen[test.partition("[")[0]]
        own = f"tests/test_{Path(mutant.file).stem}.py"
        return sorted(turns, key=lambda test: (not test.startswith(own), turns[test]))

    def _on(self, file: str, lines: Iterable[int]) -> set[str]:
        name = self._files.get(file)
        by_line = self._data.contexts_by_lineno(name) if name else {}
        contexts = {context for line in lines for context in by_line.get(line, ())}
        return {context.rpartition("|")[0] for context in contexts} - {""}


def _assigned(mutant: Mutant) -> list[str]:
    """The names to which the statement with the break gives a value."""
    for node in ast.walk(ast.parse((ROOT / PACKAGE / mutant.file).read_text("utf-8"))):
        if isinstance(node, ast.Assign | ast.AnnAssign) and (node.lineno, node.end_lineno) == (
            mutant.line,
            mutant.end,
        ):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            return [target.id for target in targets if isinstance(target, ast.Name)]
    return []


class Runner:
    """Runs mutants in the place of pytest's own loop."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.tests = Tests(options.covered, options.times)
        self.good: dict[str, bool] = {}
        self.killers: dict[str, Counter[str]] = defaultdict(Counter)
        self.failed = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """The first failure is enough."""
        if report.failed and not self.failed:
            self.failed = report.nodeid

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """All that are not in the file of results yet."""
        self.items = {item.nodeid: item for item in session.items}
        code, results = Code(), Path(self.options.results)
        done = (
            {json.loads(line)["key"] for line in results.read_text().splitlines()}
            if results.exists()
            else set()
        )
        waiting = [mutant for mutant in drawn(self.options.others) if mutant.key + mutant.after not in done]
        if self.options.only:
            wanted = {json.loads(line)["key"] for line in Path(self.options.only).read_text().splitlines()}
            waiting = [mutant for mutant in waiting if mutant.key + mutant.after in wanted]
        gc.freeze()
        for count, mutant in enumerate(waiting):
            started = time.monotonic()
            outcome = self._outcome(code, mutant)
            took = round(time.monotonic() - started, 1)
            with results.open("a") as file:
                known = mutant.__dict__ | {
                    "key": mutant.key + mutant.after,
                    "outcome": outcome,
                    "seconds": took,
                }
                file.write(json.dumps(known) + "\n")
            print(f"{count + 1}/{len(waiting)} {took}s {mutant.key} {outcome}", flush=True)
        return True

    def _outcome(self, code: Code, mutant: Mutant) -> str:
        tests = [test for test in self.tests.of(mutant) if test in self.items and self.good.get(test, True)]
        before = self.killers[mutant.file]
        # Those that have killed others in this file come first.
        tests.sort(key=lambda test: self.tests.seconds.get(test, 1) if before[test] else math.inf)
        if not tests:
            return "not covered"
        while True:
            chosen, seconds = [], 0.0
            for test in tests:
                takes, always = self.tests.seconds.get(test, 1), test.partition("::")[0] in mutant.always
                if seconds + takes <= self.options.budget or not chosen or always:
                    chosen.append(test)
                    seconds += takes
            for patience in (1, 5):  # the machine may just have been busy
                failed = self._child(lambda: code.put(mutant), chosen, patience * seconds)
                if failed == "cannot be put":
                    failed = self._process(mutant, chosen, patience * seconds)
                if failed != "timeout":
                    break
            if failed in ("", "timeout"):
                return failed or "survived"
            if failed == "crashed":
                return "cannot be made"
            if failed not in self.good:
                self.good[failed] = not self._child(lambda: True, [failed], 60)
            if self.good[failed]:
                before[failed] += 1
                return f"killed by {failed}"
            tests.remove(failed)

    def _child(self, prepare: Callable[[], bool], tests: list[str], seconds: float) -> str:
        """The first test that fails in a child, if any."""
        reading, writing = os.pipe()
        folder = tempfile.mkdtemp(prefix="mutant")
        child = os.fork()
        if not child:
            os.setsid()
            os.close(reading)
            sink = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(sink, stream)
            os.environ["PYTEST_DEBUG_TEMPROOT"] = folder
            said = "crashed"
            try:
                said = self._run(tests) if prepare() else "cannot be put"
            finally:
                os.write(writing, said.encode())
                os._exit(0)
        os.close(writing)
        ready, _, _ = select.select([reading], [], [], 30 + 6 * seconds)
        said = os.read(reading, 4096).decode() if ready else "timeout"
        os.close(reading)
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        shutil.rmtree(folder, ignore_errors=True)
        return said

    def _run(self, tests: list[str]) -> str:
        items = [self.items[test] for test in tests]
        for item, following in zip(items, [*items[1:], None], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if self.failed:
                break
        return self.failed

    def _process(self, mutant: Mutant, tests: list[str], seconds: float) -> str:
        with tempfile.TemporaryDirectory(prefix="mutant") as folder:
            shutil.copytree(
                ROOT / PACKAGE, Path(folder, PACKAGE), ignore=shutil.ignore_patterns("__pycache__")
            )
            Path(folder, PACKAGE, mutant.file).write_text(ast.unparse(source_of(mutant)), "utf-8")
            program = (
                f"import sys; sys.path.insert(0, {folder!r}); import {PACKAGE}, pytest; "
                f"sys.exit(pytest.main(['-x', '-q', '-p', 'no:cacheprovider', '--tb=no', *sys.argv[1:]]))"
            )
            environment = os.environ | {"PYTEST_DEBUG_TEMPROOT": folder, "PYTHONPATH": str(ROOT)}
            command = [sys.executable, "-c", program, *tests[:400]]
            try:
                done = subprocess.run(
                    command,
                    cwd=ROOT,
                    env=environment,
                    capture_output=True,
                    text=True,
                    timeout=60 + 4 * seconds,
                )
            except subprocess.TimeoutExpired:
                return "timeout"
        if done.returncode == 0:
            return ""
        failed = [
            line.split()[1] for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))
        ]
        named = [test for test in failed if test in self.items]
        return named[0] if named else tests[0]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run")
    run.add_argument("covered", type=Path)
    run.add_argument("times", type=Path)
    run.add_argument("results")
    run.add_argument("--others", type=int, default=450, help="how many beside the filters")
    run.add_argument("--budget", type=float, default=30, help="seconds of tests for one mutant")
    run.add_argument("--only", help="a file of results: no other mutants")
    survivors = commands.add_parser("survivors")
    survivors.add_argument("results", type=Path)
    options = parser.parse_args()
    if options.command == "run":
        files = sorted({test.partition("::")[0] for test in Tests(options.covered, options.times).seconds})
        files = [file for file in files if (ROOT / file).exists()]
        os.chdir(ROOT)
        sys.exit(pytest.main(["-q", "-s", "-p", "no:cacheprovider", *files], plugins=[Runner(options)]))
    results = [json.loads(line) for line in options.results.read_text().splitlines()]
    for kind in (True, False):
        these = [each for each in results if each["edit"].startswith("filter ") is kind]
        killed = [each for each in these if each["outcome"].startswith(("killed", "timeout"))]
        print("filters" if kind else "others", len(killed), "of", len(these), "killed")
    for each in results:
        if not each["outcome"].startswith(("killed", "timeout")):
            print(f"\n{each['file']}:{each['line']} {each['edit']} ({each['outcome']})")
            print(f"- {each['before']}\n+ {each['after']}")


if __name__ == "__main__":
    main()
