"""The table of flows in docs/scripts.md, from their docstrings: `python -m tests.flows_table` writes it."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fastapi_pluggable_auth import features, flows
from fastapi_pluggable_auth.auth import Auth

from .shipped import ALL_CODES

PAGE = Path(__file__).parent.parent / "docs" / "scripts.md"
START, END = "<!-- flows -->\n", "<!-- end of flows -->"

PARTS = {
    "features.bot_check.remote.ask",
    *(
        "notices",
        "throttle",
        "columns",
        "pending",
        "link_codes",
        "ends",
        "acting",
        "generations",
        "reuse",
        "rotation.is_newest",
        "session_tokens",
    ),
    "features.audit_log.recording",
    *("sessions.start_session", "email.owner_of", "email_change.request_email_change"),
    *("features.two_factor.flows.switch_off", "account.erase", "sessions.add_factors"),
    *("login.begin_challenge", "login.challenged", "login.require_password"),
    *(
        "mailed_codes.check_guess",
        "ways_in",
        "features.passkeys.keeping.locked",
        "features.passkeys.keeping.write_factors",
    ),
    *(f"features.passkeys.flows.{name}" for name in ("check_first", "check_second_factor")),
    *(f"features.social_login.flows.{name}" for name in ("account_of", "session_of")),
    "features.social_login.importing",
    *("gate.entering", "gate.admit", "gate.second_factor", "gate.factor_required", "gate.renew"),
    *("login.account_named", "password.require_good_password", "purge.keep_purging"),
    *(
        "features.administration.flows.acting_on",
        "features.administration.flows.refuse",
        "authentication.authenticate_session",
    ),
    *(
        "sessions.start_impersonation",
        "mailbox.claim_mailbox",
    ),
    *(f"features.oauth_server.{name}" for name in ("authorizing", "granting", "tokens", "ending")),
    *(f"features.oauth_server.{name}" for name in ("allowing", "devices")),
    *(f"features.oauth_server.{name}" for name in ("documents", "probing", "clients.authenticate_client")),
    *(f"features.oauth_server.{name}" for name in ("registering", "limiting")),
    *(f"features.oauth_server.{name}" for name in ("client_tokens", "service_tokens")),
    "features.oauth_server.introspecting",
}
"""What flows are made of, and what is of no use alone."""


HTTP = {"feature", "routes", "pages", "schemas", "models"}
"""Of a feature: what is in none of these are flows."""


def modules() -> Iterator[tuple[str, str]]:
    """Each module of flows, by its name in the table and its full name; those of features come last."""
    for module in sorted(pkgutil.iter_modules(flows.__path__), key=lambda found: found.name):
        yield module.name, f"{flows.__name__}.{module.name}"
    for module in sorted(
        pkgutil.walk_packages(features.__path__, f"{features.__name__}."), key=lambda found: found.name
    ):
        folder, _, part = module.name.removeprefix(f"{features.__name__}.").partition(".")
        if part and part.rpartition("_")[2] not in HTTP:
            yield f"features.{folder}.{part}", module.name


def flow_functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Each flow with its module, in the order of the code."""
    for short, full in modules():
        for name, member in vars(importlib.import_module(full)).items():
            if not callable(member) or name.startswith("_") or short in PARTS:
                continue
            function = inspect.unwrap(member)
            is_flow = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
            own = getattr(function, "__module__", "") == full
            if is_flow and own and f"{short}.{name}" not in PARTS:
                yield short, function


def codes_of(function: Callable[..., Any]) -> list[str]:
    """The codes that its docstring says it raises."""
    text = inspect.getdoc(function) or ""
    words = re.findall(r"\b[A-Z]{2,}(?:_[A-Z]+)*\b", text)
    names = {code.name for code in ALL_CODES} | {"PASSWORD_REFUSALS"}
    return [word for word in dict.fromkeys(words) if word in names]


def row(module: str, function: Callable[..., Any]) -> str:
    """What it is called with, does and raises."""
    parameters = [*inspect.signature(function).parameters.values()]
    assert parameters[0].annotation in {Auth.__name__, f"{Auth.__name__}[U]"}, function
    shown = [str(each.replace(annotation=inspect.Parameter.empty)) for each in parameters]
    keywords = [index for index, each in enumerate(parameters) if each.kind is inspect.Parameter.KEYWORD_ONLY]
    if keywords:
        shown.insert(keywords[0], "*")
    text = " ".join((inspect.getdoc(function) or "").split("\n\n")[0].split())
    does = re.split(r"(?<=[.:]) Raises? ", text)[0].removesuffix(".")
    does = re.sub(r"\. Raises .*|; raises? .*| Raises? like.*", "", does)
    raises = ", ".join(f"`{code.lower()}`" for code in codes_of(function))
    if "like `login`" in (inspect.getdoc(function) or ""):
        raises = f"{raises}, and as `login`" if raises else "as `login`"
    shown = [re.sub(r"<(\w+\.\w+): .*>", r"\1", each) for each in shown]  # an enum
    call = f"{module}.{function.__name__}({', '.join(shown)})"
    return f"| `{call}` | {does}. | {raises or '-'} |"


def table() -> str:
    """The table in Markdown."""
    rows = [row(module, function) for module, function in flow_functions()]
    return "\n".join(["| flow | what it does | refuses with |", "|---|---|---|", *rows]) + "\n"


def main() -> None:
    """Writes it into the page."""
    before, rest = PAGE.read_text("utf-8").split(START)
    PAGE.write_text(before + START + table() + END + rest.split(END)[1], "utf-8")


if __name__ == "__main__":
    main()
