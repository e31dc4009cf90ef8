"""The code in Markdown pages, and what runs it: `python -m tests.snippets PAGE` in an empty folder.

Python blocks run in order in one namespace, with `await` where they like; shell blocks in order with one set
of variables; JSON must be JSON. A block with `title="name"` is a file of the folder: Python is imported and
its names join the namespace, `test_*.py` is run by pytest at the end. A server that a shell block ends with
runs until the end of the page. Each FastAPI app of the namespace is started last.
`<!-- not executed: reason -->` in front of a block excuses it.
"""

from __future__ import annotations

import ast
import asyncio
import importlib
import inspect
import json
import os
import re
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from .hosts import STRICT

FENCE = re.compile(
    r"(?:<!-- not executed: (?P<excuse>[^\n]*?) -->\n+)?"
    r"^(?P<indent> *)```(?P<language>\w+)(?P<options>[^\n]*)\n(?P<code>.*?)^ *```$",
    re.DOTALL | re.MULTILINE,
)
SHELLS = ("sh", "bash", "console")
RUN = ("python", "json", *SHELLS)
SERVERS = ("uvicorn ", "fastapi-pluggable-auth demo")


@dataclass(frozen=True)
class Snippet:
    """A fenced block, without the indent of a list."""

    language: str
    code: str
    title: str | None
    excuse: str | None


def snippets(text: str) -> list[Snippet]:
    """All blocks that name a language, in order."""
    found = []
    for match in FENCE.finditer(text):
        lines = match["code"].splitlines()
        code = "\n".join(line.removeprefix(match["indent"]) for line in lines) + "\n"
        title = re.search(r'title="([^"]+)"', match["options"])
        found.append(Snippet(match["language"], code, title and title[1], match["excuse"]))
    return found


def blocks(language: str, text: str) -> list[str]:
    """The code of all blocks in this language."""
    return [snippet.code.rstrip("\n") for snippet in snippets(text) if snippet.language == language]


class Page:
    """What the snippets of a page have made so far, in the working folder."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.names = vars(sys.modules.setdefault("page", ModuleType("page")))
        self.apps: dict[int, Any] = {}
        self.servers: list[subprocess.Popen[bytes]] = []
        self.runner = asyncio.Runner()

    def run(self, snippet: Snippet) -> None:
        """Runs one block."""
        code = re.sub(r"(127\.0\.0\.1|localhost):8000", rf"\1:{self.port}", snippet.code)
        if snippet.title is not None:
            file = Path(snippet.title)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(code)
        if snippet.language in SHELLS:
            self._shell(code)
        elif snippet.language == "json":
            json.loads(code)
        elif snippet.language == "python":
            self._python(code, snippet.title)
            for value in list(self.names.values()):
                if type(value).__name__ == "FastAPI":
                    self.apps[id(value)] = value

    def _python(self, code: str, title: str | None) -> None:
        if title is None:
            compiled = compile(code, "snippet", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
            if compiled.co_flags & inspect.CO_COROUTINE:
                self.runner.run(eval(compiled, self.names))  # noqa: S307 - our own pages
            else:
                exec(compiled, self.names)
        elif not Path(title).name.startswith(("test_", "conftest")):
            importlib.invalidate_caches()
            module = importlib.import_module(title.removesuffix(".py").replace("/", "."))
            self.names |= {name: value for name, value in vars(module).items() if name[:2] != "__"}

    def _shell(self, code: str) -> None:
        script = f"set -aeo pipefail\ntouch .variables\n. ./.variables\n{code}\nexport -p > .variables"
        last = code.strip().splitlines()[-1]
        if last.startswith(SERVERS):
            self._serve(script.replace(last, f"exec {last} --port {self.port}"))
        else:
            subprocess.run(["bash", "-c", script], check=True, timeout=120)

    def _serve(self, script: str) -> None:
        server = subprocess.Popen(["bash", "-c", script])
        self.servers.append(server)
        deadline = time.monotonic() + 60
        while True:
            with socket.socket() as probe:
                if not probe.connect_ex(("127.0.0.1", self.port)):
                    return
            assert server.poll() is None, "the server has ended"
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.05)

    def finish(self) -> None:
        """Starts the apps, and runs the tests."""
        for app in self.apps.values():
            self.runner.run(_start(app))
        if list(Path().glob("test_*.py")):
            Path("pytest.ini").write_text(STRICT)
            command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
            subprocess.run(command, check=True, timeout=120)

    def close(self) -> None:
        """Ends what still runs."""
        for server in self.servers:
            server.terminate()
            server.wait(20)
        self.runner.close()


async def _start(app: Any) -> None:
    """The app starts, and shows its routes."""
    import httpx

    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
    ):
        assert (await client.get("/openapi.json")).status_code == 200


def main(path: str) -> None:
    """Runs a page; raises what its snippets raise."""
    sys.path.insert(0, os.getcwd())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ["PUBLIC_BASE_URL"] = f"http://localhost:{port}"
    Path(".env").write_text("JWT_SECRET=c3qXvN9tLb2RkZ8wYp5Dh7GsJm4TfEu6\nEMAIL_PROVIDER=memory\n")
    page = Page(port)
    try:
        for snippet in snippets(Path(path).read_text("utf-8")):
            if snippet.excuse is None:
                page.run(snippet)
        page.finish()
    finally:
        page.close()


if __name__ == "__main__":
    main(sys.argv[1])
