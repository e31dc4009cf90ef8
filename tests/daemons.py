"""Debian's programs that a test starts for itself, on its own ports and in its own folder."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

AS_NOBODY = ("--reuid=nobody", "--regid=nogroup", "--clear-groups")


def binary(name: str) -> str | None:
    """Where a program is installed, also where the PATH of a user does not lead."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


def none_of(*names: str) -> str | None:
    """Which of these programs are not installed; None where all are."""
    missing = [name for name in names if binary(name) is None]
    return f"not installed: {', '.join(missing)}" if missing else None


@contextmanager
def own_folder(prefix: str) -> Iterator[Path]:
    """A folder for what daemons read and write, which is removed."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    given(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def given(path: Path) -> Path:
    """A path that daemons may write to. Many refuse to run as root: where the tests do, they are nobody."""
    if os.geteuid() == 0:
        shutil.chown(path, "nobody", "nogroup")
    return path


def given_folder(path: Path) -> Path:
    """A new one that daemons may write to."""
    path.mkdir()
    return given(path)


def run(*command: object, seconds: float = 60) -> str:
    """What a program prints that runs to its end, with the rights of a daemon."""
    name, *arguments = map(str, command)
    program = binary(name)
    assert program, name
    whole = [*_account(), program, *arguments]
    done = subprocess.run(
        whole,
        cwd="/",
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
    )
    assert done.returncode == 0, (whole, done.stdout)
    return done.stdout


class Daemon:
    """A program that serves a port of 127.0.0.1 until it is stopped; returns once it answers there."""

    def __init__(self, command: list[object], port: int, log: Path, seconds: float = 30) -> None:
        name, *arguments = map(str, command)
        program = binary(name)
        assert program, name
        with given_log(log).open("ab") as output:
            self._process = subprocess.Popen(
                [*_account(), program, *arguments], cwd="/", stdout=output, stderr=subprocess.STDOUT
            )
        self.pid = self._process.pid
        deadline = time.monotonic() + seconds
        while not answers(port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"{name} does not serve: {log.read_text('utf-8', 'replace')}")
            time.sleep(0.02)

    def kill(self) -> None:
        """As a machine does that goes down."""
        self._process.kill()
        self._process.wait()

    def stop(self, seconds: float = 10) -> None:
        """Asks it to end; after that time it is killed."""
        self._process.terminate()
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()


def answers(port: int) -> bool:
    """Whether something listens on a port of 127.0.0.1."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def given_log(log: Path) -> Path:
    """A log that a daemon may write to."""
    log.touch()
    return given(log)


def _account() -> tuple[str, ...]:
    """Runs a program with the rights of a daemon, and ends it where the tests are killed."""
    return ("setpriv", "--pdeathsig=KILL", *(AS_NOBODY if os.geteuid() == 0 else ()))
