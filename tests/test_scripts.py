"""docs/scripts.md names every flow and every command, as they are."""

from __future__ import annotations

import argparse
import inspect
import re

import pytest

from fastapi_pluggable_auth.commands import keys, users

from .flows_table import END, PAGE, START, codes_of, flow_functions, table

CAUGHT = {"reauthenticate": {"INVALID_CREDENTIALS"}}
"""Inside the flow itself."""

TEXT = PAGE.read_text("utf-8")


def test_the_table_of_flows_is_as_the_code_is() -> None:
    """`python -m tests.flows_table` brings it up to date."""
    assert TEXT.split(START)[1].split(END)[0] == table()


@pytest.mark.parametrize("function", [function for _, function in flow_functions()], ids=lambda f: f.__name__)
def test_every_flow_has_a_docstring_that_names_what_it_raises(function: object) -> None:
    assert inspect.getdoc(function)
    name = function.__name__  # type: ignore[attr-defined]
    source = inspect.getsource(function)  # type: ignore[arg-type]
    raised = set(re.findall(r"raise AuthError\(\w+\.([A-Z_]+)\b", source))
    assert raised - CAUGHT.get(name, set()) <= {*codes_of(function)}  # type: ignore[arg-type]


@pytest.mark.parametrize("command", [users, keys])
def test_every_command_and_option_is_named(command: object) -> None:
    parser = argparse.ArgumentParser()
    command.add_to(parser)  # type: ignore[attr-defined]
    (subcommands,) = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
    name = command.__name__.rsplit(".", 1)[1]  # type: ignore[attr-defined]
    for subcommand, added in subcommands.choices.items():
        assert f"fastapi-pluggable-auth {name} {subcommand}" in TEXT, subcommand
        for action in added._actions:
            for option in {*action.option_strings[-1:]} - {"--help"}:
                assert f"`{option}" in TEXT or f" {option}" in TEXT, (subcommand, option)
