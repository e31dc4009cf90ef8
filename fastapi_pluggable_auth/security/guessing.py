"""How hard a password is to guess, by the estimates of zxcvbn (ASVS 6.2.7), and what makes it so."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from math import prod
from typing import Any, Final

from .plaintext import Plaintext
from .workers import Workers

RATED_LENGTH: Final = 40
"""Characters that are looked at: zxcvbn takes a power of the length, and what has more is good or repeats."""
RATED_WORDS: Final = 32
"""Words about the owner that are looked at."""
PLACES: Final = 16
"""How many passwords may wait to be rated, one after the other."""
GOOD: Final = 3
"""From this score on there is nothing to say."""

_LOOKALIKES: Final = ("4@", "({[<", "69", "!1|", "1|7", "$5", "+7")
"""Of these, zxcvbn tries each for one letter, in every combination: seconds for a password of them alone."""
_COMBINATIONS: Final = 8
_PLAIN_SIGNS: Final = str.maketrans("@({[<!|$+", ";:,.?-_=*")


class Hint(StrEnum):
    """What makes a password easy to guess."""

    COMMON = "common"
    WORD = "word"
    NAME = "name"
    PERSONAL = "personal"
    KEYBOARD = "keyboard"
    REPEAT = "repeat"
    SEQUENCE = "sequence"
    DATE = "date"


_OF_PATTERNS: Final = {
    "spatial": Hint.KEYBOARD,
    "repeat": Hint.REPEAT,
    "sequence": Hint.SEQUENCE,
    "regex": Hint.DATE,
    "date": Hint.DATE,
}
_OF_DICTIONARIES: Final = {
    "passwords": Hint.COMMON,
    "user_inputs": Hint.PERSONAL,
    "surnames": Hint.NAME,
    "male_names": Hint.NAME,
    "female_names": Hint.NAME,
}
"""Any other has words."""


@dataclass(frozen=True, slots=True)
class Rating:
    """From 0, guessed at once, to 4; and what could be better, where that can be said."""

    score: int
    hint: Hint | None = None


def common_passwords(shortest: int) -> frozenset[str]:
    """Those of at least so many characters."""
    # Imported on first use: it is read once, into the set that its caller keeps.
    from zxcvbn.frequency_lists import FREQUENCY_LISTS

    return frozenset(word for word in FREQUENCY_LISTS["passwords"] if len(word) >= shortest)


def rate(password: str, about: Iterable[str] = ()) -> Rating:
    """How hard it is to guess for somebody who knows these words about its owner."""
    if not password:
        return Rating(0)
    # The parts of zxcvbn: its own function keeps the words in the process, and mixes up those of two threads.
    from zxcvbn import matching, scoring, time_estimates

    known = matching.RANKED_DICTIONARIES | {"user_inputs": matching.build_ranked_dict(_words_in(about))}
    looked_at = _affordable(password)
    result = scoring.most_guessable_match_sequence(looked_at, matching.omnimatch(looked_at, known))
    score: int = time_estimates.guesses_to_score(result["guesses"])
    if score >= GOOD:
        return Rating(score)
    return Rating(score, _hint_of(max(result["sequence"], key=lambda match: len(match["token"]))))


def _words_in(about: Iterable[str]) -> list[str]:
    """In lower case, whole and in parts."""
    words = (part for text in about for part in (text, *re.split(r"[\W_]+", text)))
    return [*dict.fromkeys(word.lower() for word in words if len(word) > 2)][:RATED_WORDS]


def _affordable(password: str) -> str:
    """What is looked at: neither so long nor so full of lookalikes that others wait long for its rating."""
    text = password[:RATED_LENGTH]
    combinations = prod(max(1, sum(sign in text for sign in signs)) for signs in _LOOKALIKES)
    return text if combinations <= _COMBINATIONS else text.translate(_PLAIN_SIGNS)


def _hint_of(match: dict[str, Any]) -> Hint | None:
    """What zxcvbn has found in the longest part."""
    if match["pattern"] == "dictionary":
        return _OF_DICTIONARIES.get(match["dictionary_name"], Hint.WORD)
    return _OF_PATTERNS.get(match["pattern"])


class PasswordMeter:
    """Rates on a thread of its own, which does not compete with sign-ins for those that hash: at most
    `PLACES` wait, those of each `network` in turn. A call waits inside the context that `waiting` makes."""

    def __init__(
        self, waiting: Callable[[], AbstractContextManager[None]], network: Callable[[], str]
    ) -> None:
        self._workers = Workers(1, "password-rating", waiting, network)

    async def rate(self, password: Plaintext, about: Iterable[str]) -> Rating:
        """See `rate`; raises `AuthError(OVERLOADED)`. Takes the password."""
        return await self._workers.run(lambda: rate(password.take(), about), PLACES)

    def close(self) -> None:
        """Ends the thread once its work is done; a later call starts a new one."""
        self._workers.close()
