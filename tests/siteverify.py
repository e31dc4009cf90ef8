"""A service that tells people from programs, on this machine: it speaks `siteverify` as Cloudflare documents
it (https://developers.cloudflare.com/turnstile/get-started/server-side-validation/), and serves a script that
stands for the one of the provider."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

from fastapi_pluggable_auth.features import Turnstile, Widget

SECRET = "secret-of-the-app-at-the-service"
SITE_KEY = "0x4site-key"

SCRIPT = """
for (const place of document.querySelectorAll(".cf-turnstile")) {
  const field = document.createElement("input")
  Object.assign(field, { type: "hidden", name: "cf-turnstile-response" })
  const frame = document.createElement("iframe")
  frame.src = new URL("frame", SOURCE)
  frame.title = "Widget"
  const asked = new URLSearchParams({ action: place.dataset.action, hostname: location.hostname })
  frame.src += "?" + asked
  addEventListener("message", event => {
    if (event.source !== frame.contentWindow) return
    field.value = event.data
    document.body.dataset.solved = ""
  })
  place.append(field, frame)
}
"""

FRAME = """<!doctype html><html lang="en"><title>Widget</title><script>
fetch("solve" + location.search).then(answer => answer.text()).then(token => parent.postMessage(token, "*"))
</script></html>"""


class Service:
    """What it knows: the tokens that it has given, and those that were asked about."""

    def __init__(self) -> None:
        self.origin = ""
        self.tokens: dict[str, dict[str, Any]] = {}
        self.spends = True
        self.asked: list[dict[str, str]] = []
        self.raw: Callable[[BaseHTTPRequestHandler], None] | None = None
        """Answers what no right service says."""

    def token(self, action: str, hostname: str = "localhost", **said: Any) -> str:
        """A token that somebody has got for solving it."""
        token = f"token.{len(self.tokens)}-{time.monotonic_ns()}"
        self.tokens[token] = {"hostname": hostname, "action": action, **said}
        return token

    def turnstile(self, **options: Any) -> Turnstile:
        """The service for an app, which takes this one for Cloudflare's."""

        class Here(Turnstile):
            url = f"{self.origin}/siteverify"
            widget = Widget(
                script=f"{self.origin}/api.js",
                css_class="cf-turnstile",
                form_field="cf-turnstile-response",
                sources={"script-src": (self.origin,), "frame-src": (self.origin,)},
            )

        return Here(**{"site_key": SITE_KEY, "secret_key": SECRET, **options})

    def answer(self, sent: dict[str, str]) -> dict[str, Any]:
        self.asked.append(sent)
        if sent.get("secret") != SECRET:
            return {"success": False, "error-codes": ["invalid-input-secret"]}
        if not sent.get("response"):
            return {"success": False, "error-codes": ["missing-input-response"]}
        token = sent["response"]
        said = self.tokens.pop(token, None) if self.spends else self.tokens.get(token)
        if said is None:
            return {"success": False, "error-codes": ["timeout-or-duplicate"], "messages": []}
        times = {"challenge_ts": "2026-11-26T12:00:00.000Z", "error-codes": [], "cdata": ""}
        return {"success": True, **times, **said}

    @contextmanager
    def serving(self) -> Iterator[Service]:
        """Serves on a free port of this machine."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.origin = f"http://localhost:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def _handler(service: Service) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            sent = {name: values[0] for name, values in parse_qs(body, keep_blank_values=True).items()}
            if service.raw is not None:
                service.asked.append(sent)
                service.raw(self)
                return
            self._send("application/json", json.dumps(service.answer(sent)))

        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            if path == "/api.js":
                self._send("text/javascript", SCRIPT.replace("SOURCE", json.dumps(service.origin)))
            elif path == "/frame":
                self._send("text/html", FRAME)
            elif path == "/solve":
                asked = {name: values[0] for name, values in parse_qs(query).items()}
                self._send("text/plain", service.token(asked["action"], asked["hostname"]))
            else:
                self.send_error(404)

        def _send(self, kind: str, text: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    return Handler
