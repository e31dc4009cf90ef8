"""How far a long command has come, on a terminal; `tqdm` is in the `cli` extra."""

from __future__ import annotations

import sys
from typing import Any, Self


class Progress:
    """A bar of bytes on stderr. None is drawn without a terminal, or without tqdm."""

    def __init__(self, total: int) -> None:
        self._bar: Any = None
        try:
            from tqdm import tqdm
        except ImportError:
            return
        self._bar = tqdm(total=total, unit="B", unit_scale=True, disable=None, leave=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def moved_to(self, position: int, note: str) -> None:
        """Draws where it is, with a note behind it."""
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(position - self._bar.n)

    def say(self, sentence: str) -> None:
        """A line on stderr, above the bar."""
        if self._bar is None:
            print(sentence, file=sys.stderr)
        else:
            self._bar.write(sentence, file=sys.stderr)
