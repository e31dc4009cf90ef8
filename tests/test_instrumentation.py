"""What wraps an app wraps ours too, whether it comes before `include_auth` or after it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry
from prometheus_fastapi_instrumentator import Instrumentator
from slowapi import Limiter
from slowapi.middleware import SlowAPIASGIMiddleware, SlowAPIMiddleware
from slowapi.util import get_remote_address
from starlette.background import BackgroundTask
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from tortoise.context import TortoiseContext

from fastapi_pluggable_auth import AuthSettings, CurrentUser, include_auth
from fastapi_pluggable_auth.models import Throttle
from fastapi_pluggable_auth.security.cookies import Cookies

from .conftest import EMAIL, PASSWORD
from .test_host_transactions import wrap_in_plain_asgi

DIALECTS = ("sqlite",)
CREDENTIALS = {"email": EMAIL, "password": PASSWORD}
ACCESS = Cookies(secure=False).access
BROWSER = {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost:8000"}

Wrap = Callable[[FastAPI], None]
before_and_after = pytest.mark.parametrize("first", [True, False], ids=["before", "after"])


def plugged(settings: AuthSettings, wrap: Wrap, *, first: bool) -> FastAPI:
    """An app with account pages and cookies, wrapped before or after that."""
    app = FastAPI()
    if first:
        wrap(app)
    update = {"require_verified_email": False, "deliver_mail": False, "email_provider": "memory"}
    include_auth(app, settings=settings.model_copy(update=update), pages=True)
    if not first:
        wrap(app)

    @app.get("/mine")
    async def mine(user: CurrentUser) -> str:
        return user.email

    @app.get("/broken")
    async def broken(user: CurrentUser) -> None:
        raise ZeroDivisionError

    return app


@asynccontextmanager
async def browser(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A browser that is signed in, at an app that answers mistakes with 500."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    base = "http://localhost:8000"
    async with httpx.AsyncClient(transport=transport, base_url=base, headers=BROWSER) as client:
        assert (await client.post("/auth/signup", json=CREDENTIALS)).status_code == 201
        assert (await client.post("/auth/login", json=CREDENTIALS)).json()["token_type"] == "cookie"
        yield client


async def assert_renewed_cookies_come_with_every_answer(client: httpx.AsyncClient) -> None:
    """Also with one that nobody handled: the guarantee of the outermost layers."""
    for path, status in (("/mine", 200), ("/broken", 500)):
        client.cookies.delete(ACCESS)
        answer = await client.get(path)
        assert answer.status_code == status
        assert answer.headers["set-cookie"].startswith(f"{ACCESS}=")


class Spans:
    """What OpenTelemetry records."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def of(self, name: str) -> list[ReadableSpan]:
        """Those of this name."""
        return [span for span in self._exporter.get_finished_spans() if span.name == name]


@pytest.fixture
def spans() -> Iterator[Spans]:
    """OpenTelemetry replaces a method of Starlette for good, where the app is not uninstrumented."""
    call = BackgroundTask.__call__
    yield Spans()
    BackgroundTask.__call__ = call  # type: ignore[method-assign]
    if hasattr(BackgroundTask, "_otel_original_call"):
        del BackgroundTask._otel_original_call


@before_and_after
async def test_opentelemetry_has_spans_of_our_routes_and_of_the_hosts(
    settings: AuthSettings, tortoise: TortoiseContext, spans: Spans, *, first: bool
) -> None:
    def instrument(app: FastAPI) -> None:
        FastAPIInstrumentor.instrument_app(app, tracer_provider=spans.provider)

    app = plugged(settings, instrument, first=first)
    async with browser(app) as client:
        await assert_renewed_cookies_come_with_every_answer(client)
    for name in ("POST /auth/signup", "POST /auth/login", "GET /mine"):
        assert len(spans.of(name)) == 1, name
    (broken,) = spans.of("GET /broken")
    assert [event.attributes["exception.type"] for event in broken.events if event.attributes] == [
        "ZeroDivisionError"
    ]


async def assert_goes_on(client: httpx.AsyncClient) -> None:
    """Signed in, by cookies that are renewed, also after a mistake of the app."""
    client.cookies.delete(ACCESS)
    assert (await client.get("/mine")).headers["set-cookie"].startswith(f"{ACCESS}=")
    assert (await client.get("/broken")).status_code == 500
    assert (await client.get("/mine")).json() == EMAIL


@before_and_after
@pytest.mark.parametrize("served", [True, False], ids=["served", "not served"])
async def test_an_app_that_is_no_longer_instrumented_goes_on(
    settings: AuthSettings, tortoise: TortoiseContext, spans: Spans, *, first: bool, served: bool
) -> None:
    def instrument(app: FastAPI) -> None:
        FastAPIInstrumentor.instrument_app(app, tracer_provider=spans.provider)

    app = plugged(settings, instrument, first=first)
    if not served:
        FastAPIInstrumentor.uninstrument_app(app)
    async with browser(app) as client:
        if served:
            FastAPIInstrumentor.uninstrument_app(app)
        await assert_goes_on(client)
        if not first:
            await assert_renewed_cookies_come_with_every_answer(client)
    assert spans.of("GET /mine") == []


@before_and_after
async def test_what_puts_back_the_stack_that_it_found_leaves_ours(
    settings: AuthSettings, tortoise: TortoiseContext, *, first: bool
) -> None:
    found: list[Any] = []

    def replace(app: FastAPI) -> None:
        found.append(app.build_middleware_stack)
        by_stack(app, [])

    app = plugged(settings, replace, first=first)
    async with browser(app) as client:
        app.build_middleware_stack = found[0]  # type: ignore[method-assign]
        app.middleware_stack = app.build_middleware_stack()
        await assert_goes_on(client)


async def test_a_stack_that_was_put_back_has_our_layers_in_front_of_the_hosts_transaction(
    settings: AuthSettings, tortoise: TortoiseContext
) -> None:
    """A guess is counted when the answer is sent, though the host takes back what a refusal wrote."""
    found: list[Any] = []
    counted: list[int] = []
    app = plugged(settings, lambda app: found.append(app.build_middleware_stack), first=True)
    wrap_in_plain_asgi(app, DIALECTS[0])

    async def look(scope: Scope, receive: Receive, send: Send) -> None:
        async def note(message: Message) -> None:
            counted.append(await Throttle.all().count())
            await send(message)

        await stack(scope, receive, note)

    async with browser(app) as client:
        stack = found[0]()
        app.middleware_stack = look
        before = await Throttle.all().count()
        wrong = {**CREDENTIALS, "password": "wrong password"}
        assert (await client.post("/auth/login", json=wrong)).status_code == 401
        assert before < counted[0] == await Throttle.all().count()


@before_and_after
async def test_prometheus_counts_requests_to_our_routes(
    settings: AuthSettings, tortoise: TortoiseContext, *, first: bool
) -> None:
    registry = CollectorRegistry()
    app = plugged(settings, lambda app: Instrumentator(registry=registry).instrument(app), first=first)  # type: ignore[func-returns-value,arg-type]
    async with browser(app) as client:
        await assert_renewed_cookies_come_with_every_answer(client)
    for handler, status in (("/auth/login", "2xx"), ("/mine", "2xx"), ("/broken", "5xx")):
        labels = {"handler": handler, "status": status}
        labels["method"] = "POST" if handler == "/auth/login" else "GET"
        assert registry.get_sample_value("http_requests_total", labels) == 1


@pytest.mark.parametrize("kind", [SlowAPIMiddleware, SlowAPIASGIMiddleware])
@before_and_after
async def test_slowapi_limits_our_routes(
    settings: AuthSettings, tortoise: TortoiseContext, kind: type[Any], *, first: bool
) -> None:
    def limit(app: FastAPI) -> None:
        app.state.limiter = Limiter(get_remote_address, default_limits=["2/minute"])
        app.add_middleware(kind)

    app = plugged(settings, limit, first=first)
    async with browser(app) as client:
        answers = [await client.get("/auth/me") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]


class OnOutside:
    """Replaces the stack by itself around it."""

    def __init__(self, app: ASGIApp, seen: list[str]) -> None:
        self.app = app
        self._seen = seen

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Notes the path."""
        self._seen.append(scope.get("path", ""))
        await self.app(scope, receive, send)


def by_add_middleware(app: FastAPI, seen: list[str]) -> None:
    app.add_middleware(OnOutside, seen=seen)


def by_decorator(app: FastAPI, seen: list[str]) -> None:
    @app.middleware("http")
    async def note(request: Request, proceed: Callable[[Request], Awaitable[Response]]) -> Response:
        seen.append(request.url.path)
        return await proceed(request)


def by_stack(app: FastAPI, seen: list[str]) -> None:
    build = app.build_middleware_stack
    app.build_middleware_stack = lambda: OnOutside(build(), seen)  # type: ignore[method-assign]


WRAPPERS = {"add_middleware": by_add_middleware, "decorator": by_decorator, "stack": by_stack}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
@before_and_after
async def test_a_middleware_of_the_host_sees_every_request(
    settings: AuthSettings,
    tortoise: TortoiseContext,
    wrap: Callable[[FastAPI, list[str]], None],
    *,
    first: bool,
) -> None:
    seen: list[str] = []
    app = plugged(settings, lambda app: wrap(app, seen), first=first)
    async with browser(app) as client:
        await assert_renewed_cookies_come_with_every_answer(client)
    assert seen == ["/auth/signup", "/auth/login", "/mine", "/broken"]


async def test_a_mistake_is_answered_by_the_handler_of_the_host_once(
    settings: AuthSettings, tortoise: TortoiseContext
) -> None:
    calls: list[str] = []

    def handle(app: FastAPI) -> None:
        @app.exception_handler(Exception)
        async def answer(request: Request, error: Exception) -> Response:
            calls.append(type(error).__name__)
            return Response("mine", 500)

    app = plugged(settings, handle, first=False)
    async with browser(app) as client:
        assert (await client.get("/broken")).text == "mine"
    assert calls == ["ZeroDivisionError"]
