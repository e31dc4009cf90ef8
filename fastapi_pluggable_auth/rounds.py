"""Work in the background that goes on whatever happens to it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from .failures import failure_of, sentence


class Rounds:
    """Rounds of work in the background, which no exception ends. That they fail is logged once for each kind
    of failure, until one has gone well again."""

    def __init__(self, what: str, log: logging.Logger) -> None:
        self._what = what
        self._log = log
        self._told: set[object] = set()

    @contextmanager
    def one(self) -> Iterator[None]:
        """A round. Raises only what ends the task or the process: its cancellation, `SystemExit`,
        `KeyboardInterrupt`."""
        try:
            yield
        except (GeneratorExit, SystemExit, KeyboardInterrupt):
            raise
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            self.failed(error)
        except BaseException as error:
            self.failed(error)
        else:
            self.went_well()

    def failed(self, error: BaseException) -> None:
        """Notes that a round has failed."""
        failure = failure_of(error)
        kind = type(error) if failure is None else failure
        if kind in self._told:
            return
        self._told.add(kind)
        if failure is None:
            self._log.error("%s failed, and goes on", self._what, exc_info=error)
        else:
            self._log.error("%s failed, and goes on. %s", self._what, sentence(error))

    def went_well(self) -> None:
        """Notes that one has not."""
        if self._told:
            self._told.clear()
            self._log.info("%s works again", self._what)
