"""Plurals of whole numbers, by the categories of CLDR (Unicode TR 35, part 3, section 5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

Rule: TypeAlias = Callable[[int], str]


def _none(_: int) -> str:
    return "other"


def _one(n: int) -> str:
    return "one" if n == 1 else "other"


def _up_to_one(n: int) -> str:
    return "one" if n in (0, 1) else "other"


def _arabic(n: int) -> str:
    if n in (0, 1, 2):
        return ("zero", "one", "two")[n]
    if 3 <= n % 100 <= 10:
        return "few"
    return "many" if n % 100 >= 11 else "other"


def _russian(n: int) -> str:
    if n % 10 == 1 and n % 100 != 11:
        return "one"
    return "few" if n % 10 in (2, 3, 4) and n % 100 not in (12, 13, 14) else "many"


def _polish(n: int) -> str:
    if n == 1:
        return "one"
    return "few" if n % 10 in (2, 3, 4) and n % 100 not in (12, 13, 14) else "many"


def _czech(n: int) -> str:
    if n == 1:
        return "one"
    return "few" if n in (2, 3, 4) else "other"


_RULES: Final[dict[Rule, str]] = {
    _none: "id ja ko ms th vi zh",
    _up_to_one: "bn fa fr hi hy pt",
    _arabic: "ar",
    _russian: "be ru uk",
    _polish: "pl",
    _czech: "cs sk",
}
_RULE_OF: Final = {language: rule for rule, languages in _RULES.items() for language in languages.split()}
_ENOUGH: Final = range(200)
"""Of the rules above, none says more of a larger number."""


def category(language: str, count: int) -> str:
    """That of a number in a language: `one`, `few`, `other` ...; as in English where no rule is known."""
    return _RULE_OF.get(language.split("-")[0], _one)(count)


def categories(language: str) -> list[str]:
    """All that a language has."""
    return [*dict.fromkeys(category(language, count) for count in _ENOUGH)]
