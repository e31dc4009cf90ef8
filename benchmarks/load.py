"""The load generator: HTTP/1.1 over kept connections, in a process of its own (`python -m benchmarks.load`).

Reads a JSON list of loads on standard input, runs them at once, and prints what came of each as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from itertools import count, cycle
from typing import cast
from urllib.parse import urlencode

import httptools
import uvloop


@dataclass(frozen=True)
class Load:
    """Requests to repeat for some seconds, each connection with its own share of them."""

    port: int
    method: str
    path: str
    connections: int
    seconds: float
    tokens: list[str] = field(default_factory=list)
    """Bearer tokens; with `follow`, refresh tokens to start with."""
    credential: str = "Authorization: Bearer "
    """What stands before a token."""
    bodies: list[dict[str, str]] = field(default_factory=list)
    after: float = 0
    """Seconds until it begins."""
    rate: float | None = None
    """Requests a second in all, whether or not answers come; as fast as answers come otherwise."""
    form: bool = False
    """Whether bodies are forms, not JSON."""
    follow: bool = False
    """Whether each request spends the `refresh_token` of the answer before."""


@dataclass(frozen=True)
class Outcome:
    """What came of a load. Latencies are in milliseconds."""

    statuses: dict[str, int]
    per_second: float
    median: float
    p99: float


class Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError())

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        self._parser = httptools.HttpResponseParser(self)
        self._answer.set_result((status, self._body))

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """The status and the body of the answer."""
        self._body = b""
        self._answer: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        self._transport.close()


def request(load: Load, token: str | None = None, body: dict[str, str] | None = None) -> bytes:
    """The bytes of one request."""
    content = b"" if body is None else (urlencode(body) if load.form else json.dumps(body)).encode()
    lines = [f"{load.method} {load.path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(content)}"]
    if content:
        kind = "x-www-form-urlencoded" if load.form else "json"
        lines.append(f"Content-Type: application/{kind}")
    if token:
        lines.append(f"{load.credential}{token}")
    return "\r\n".join([*lines, "", ""]).encode() + content


async def run(load: Load) -> Outcome:
    """Runs one load to its end."""
    loop = asyncio.get_running_loop()
    statuses: Counter[str] = Counter()
    latencies: list[float] = []
    await asyncio.sleep(load.after)
    begun = time.perf_counter()
    ends = begun + load.seconds
    slots = count()

    async def use(number: int, connection: Connection) -> None:
        share = slice(number, None, load.connections)
        if load.follow:
            body = {"token": load.tokens[number]}
        elif load.bodies:
            requests = cycle([request(load, body=body) for body in load.bodies[share]])
        else:
            requests = cycle([request(load, token) for token in load.tokens[share]])
        while (now := time.perf_counter()) < ends:
            started = now
            if load.rate:
                # The clock starts when the request was due: a server that stalls pays for those that queue.
                started = begun + next(slots) / load.rate
                if started >= ends:
                    break
                await asyncio.sleep(started - now)
            raw = request(load, body=body) if load.follow else next(requests)
            status, answer = await connection.ask(raw)
            latencies.append(time.perf_counter() - started)
            statuses[str(status)] += 1
            if load.follow:
                body = {"token": json.loads(answer)["refresh_token"]}
        connection.close()

    # Each is at work before the next is made: the kernel gives a new one to the worker that waits for it.
    users = []
    for number in range(load.connections):
        _, connection = await loop.create_connection(Connection, "127.0.0.1", load.port)
        users.append(asyncio.create_task(use(number, connection)))
    await asyncio.gather(*users)
    took = time.perf_counter() - begun
    ranked = sorted(latency * 1000 for latency in latencies)
    return Outcome(
        dict(statuses),
        len(ranked) / took,
        ranked[len(ranked) // 2],
        ranked[min(len(ranked) - 1, len(ranked) * 99 // 100)],
    )


async def main() -> None:
    """Runs the loads on standard input at once."""
    loads = [Load(**each) for each in json.load(sys.stdin)]
    outcomes = await asyncio.gather(*map(run, loads))
    json.dump([asdict(outcome) for outcome in outcomes], sys.stdout)


if __name__ == "__main__":
    uvloop.run(main())
