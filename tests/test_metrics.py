"""Metrics: what a scrape says, read by parsers that nobody here wrote, whatever clients send and the database
does."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import re
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import httpx
import pytest
import yaml
from fastapi import FastAPI, Response
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from fastapi_pluggable_auth import Auth, AuthSettings, Refused, include_auth, metrics
from fastapi_pluggable_auth.email.kinds import MailKind
from fastapi_pluggable_auth.errors import AuthError
from fastapi_pluggable_auth.events import EventKind
from fastapi_pluggable_auth.features import AuditLog, Feature, Passkeys, PersonalTokens
from fastapi_pluggable_auth.flows.purge import purge
from fastapi_pluggable_auth.hooks import BeforeSignup
from fastapi_pluggable_auth.measurements import Measurement, PasswordHashed
from fastapi_pluggable_auth.metrics import OTHER
from fastapi_pluggable_auth.models import Mail, MailState
from fastapi_pluggable_auth.readiness import NotReady

from . import promtool
from .conftest import EMAIL, PASSWORD, SECRET, Account, Clock, Mailbox, on_each_database
from .proxy import Proxy
from .snippets import snippets
from .spare_database import SpareDatabase
from .test_outages import on_postgres, served

DIALECTS = ("sqlite",)
DOCS = Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "metrics.md").read_text("utf-8")
PRODUCTION = (DOCS / "production.md").read_text("utf-8")
needs_promtool = pytest.mark.skipif(promtool.missing() is not None, reason=str(promtool.missing()))


def with_metrics(app: FastAPI, auth: Auth) -> FastAPI:
    """As docs/metrics.md has it, with a registry of its own."""
    exposed = metrics.prometheus(auth, registry=CollectorRegistry())

    @app.get("/metrics")
    async def scrape() -> Response:
        return await exposed.response()

    return app


@pytest.fixture
def features() -> list[Feature]:
    return [AuditLog(), Passkeys(), PersonalTokens(scopes={"read": "Read"})]


@pytest.fixture
def app(settings: AuthSettings, clock: Clock, features: list[Feature]) -> FastAPI:
    app = FastAPI()
    auth = include_auth(app, settings=settings, clock=clock, features=features)
    return with_metrics(app, auth)


class Scrape:
    """What one answer says."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        self.samples: list[Sample] = [each for family in self.families.values() for each in family.samples]

    def __call__(self, name: str, **labels: str) -> float:
        """The sum of the samples of this name with these labels; 0 where there are none."""
        return sum(
            each.value for each in self.samples if each.name == name and each.labels.items() >= labels.items()
        )


async def scrape(client: httpx.AsyncClient) -> Scrape:
    async with asyncio.timeout(60):
        answer = await client.get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return Scrape(answer.text)


async def test_security_events_are_counted_by_kind_outcome_and_reason(
    account: Account, client: httpx.AsyncClient, clock: Clock, settings: AuthSettings
) -> None:
    first = account.refresh_token
    before = await scrape(client)
    assert before("auth_events_total", event="refresh_reuse", outcome="failure", reason="") == 0
    assert 'auth_events_total{event="refresh_reuse",outcome="failure",reason=""} 0.0' in before.text
    for _ in range(2):
        account.refresh_token = (await account.refresh()).json()["refresh_token"]
        clock.advance(minutes=1)
    assert (await account.refresh(first)).status_code == 401
    settings.throttle_free_attempts = 3
    wrong = Account(client, account.mailbox, EMAIL, "wrong password")
    assert [(await wrong.login()).status_code for _ in range(5)][-1] == 429
    after = await scrape(client)
    rise = {
        key: after("auth_events_total", **dict(zip(("event", "outcome", "reason"), key, strict=True)))
        for key in (
            ("signup", "success", ""),
            ("login", "success", ""),
            ("login", "failure", "invalid_credentials"),
            ("token_refresh", "success", ""),
            ("refresh_reuse", "failure", ""),
        )
    }
    assert rise == dict(zip(rise, (1, 1, 3, 2, 1), strict=True))
    assert after("auth_events_total", reason="throttled") == 2
    assert after("auth_hashing_seconds_count") == after("auth_hashing_wait_seconds_count") == 5
    assert 0 < after("auth_hashing_seconds_sum") < math.inf


async def test_hostile_input_makes_no_value_of_a_label(
    account: Account, client: httpx.AsyncClient, auth: Auth
) -> None:
    """Nor does what a hook of the app makes of it: else every client could fill the memory of the worker and
    of Prometheus."""

    @auth.on(BeforeSignup)
    def refuse(event: BeforeSignup) -> None:
        raise Refused("No.", code=f"no_{event.email.partition('@')[0]}")

    hostile = ['a"}\n1', "ü\0", "{}", "x" * 5000, "../..", "<script>", "a\\", "' OR 1=1 --"]
    for number, value in enumerate(hostile):
        agent = {"User-Agent": value.replace("\n", "").replace("\0", "").encode()}
        await client.post("/auth/login", json={"email": value, "password": value}, headers=agent)
        await client.post("/auth/login", json={"email": f"a{number}@example.com", "password": value})
        await client.post("/auth/signup", json={"email": f"x{number}@example.com", "password": PASSWORD})
        await client.post("/auth/refresh", json={"token": value})
        await client.get("/auth/me", headers={"Authorization": f"Bearer {number}"})
        await client.post("/auth/forgot-password", json={"email": f"b{number}@example.com"})
        await client.post(f"/auth/reset-password/{number}", json={"new_password": PASSWORD})
        await client.post("/account/tokens", json={"name": value, "scopes": [value]}, headers=account.headers)
    seen = await scrape(client)
    known = {
        "event": {*auth.features.events, OTHER},
        "outcome": {"success", "failure"},
        "reason": {"", *auth.features.errors, OTHER},
        "kind": {*auth.outbox.kinds, OTHER},
        "state": {"waiting", "under_way", "dead"},
        "table": {table._meta.db_table for table in auth.tables},
    }
    for sample in seen.samples:
        for label, value in sample.labels.items():
            assert label == "le" or value in known[label], sample
    assert seen("auth_events_total", event="signup", reason=OTHER) == len(hostile)
    assert EMAIL not in seen.text
    assert len(seen.samples) < 1000


@on_each_database
async def test_the_outbox_is_counted_with_its_age(
    client: httpx.AsyncClient, auth: Auth, clock: Clock, settings: AuthSettings, mailbox: Mailbox
) -> None:
    settings.deliver_mail = False
    empty = await scrape(client)
    assert (empty("auth_database_up"), empty("auth_outbox_oldest_seconds")) == (1, 0)
    for _ in range(4):
        await auth.outbox.add(MailKind.VERIFY, EMAIL)
    sent, dead, waiting, old = await Mail.all().order_by("id")
    clock.advance(seconds=90)
    await auth.outbox.mark_sent(sent)
    await auth.outbox.mark_failed(dead, "refused", permanent=True)
    seen = await scrape(client)
    states = {state: seen("auth_outbox_mails", state=state) for state in ("waiting", "under_way", "dead")}
    assert states == {"waiting": 2, "under_way": 0, "dead": 1}
    assert 90 <= seen("auth_outbox_oldest_seconds") < 150
    assert seen("auth_mail_delivery_seconds_count", kind="verify") == 1
    assert 90 <= seen("auth_mail_delivery_seconds_sum", kind="verify") < 150
    assert seen("auth_mails_given_up_total", kind="verify") == 1
    await Mail.filter(id=old.id).update(give_up_at=clock())
    claimed = await auth.outbox.claim(1)
    assert [mail.id for mail in claimed] == [waiting.id]
    seen = await scrape(client)
    states = {state: seen("auth_outbox_mails", state=state) for state in ("waiting", "under_way", "dead")}
    assert states == {"waiting": 0, "under_way": 1, "dead": 2}
    assert seen("auth_mails_given_up_total", kind="verify") == 2
    assert await Mail.filter(state=MailState.DEAD).count() == 2


async def test_a_purge_is_counted_by_table_and_says_when_it_was(
    account: Account, client: httpx.AsyncClient, auth: Auth, clock: Clock
) -> None:
    assert (await scrape(client))("auth_purge_timestamp_seconds") == 0
    clock.advance(days=60)
    deleted = await purge(auth)
    seen = await scrape(client)
    assert seen("auth_purge_timestamp_seconds") == pytest.approx(clock().timestamp(), abs=60)
    assert seen("auth_purged_rows_total", table="auth_session") == deleted["auth_session"] == 1


async def test_calls_that_wait_for_a_thread_are_seen_and_those_that_were_refused(
    client: httpx.AsyncClient, auth: Auth, settings: AuthSettings
) -> None:
    settings.hashing_queue_size = 3
    held, pool = threading.Event(), auth.hasher._workers._pool
    places = [pool.submit("x", partial(held.wait, 60), 10**6) for _ in range(pool._free)]
    calls = [asyncio.create_task(auth.hasher.hash(PASSWORD)) for _ in range(4)]
    await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    seen = await scrape(client)
    assert (seen("auth_hashing_waiting"), seen("auth_hashing_refused_total")) == (3, 1)
    held.set()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(each, AuthError) for each in results) == 1
    assert all(place.result(60) for place in places)
    seen = await scrape(client)
    assert (seen("auth_hashing_waiting"), seen("auth_hashing_seconds_count")) == (0, 3)


@on_postgres
@pytest.mark.parametrize("fault", ["refuse", "stall"])
async def test_a_scrape_is_answered_while_the_database_is_down_or_silent(
    fault: str, spare: SpareDatabase, settings: AuthSettings
) -> None:
    await spare.create("fastapi_pluggable_auth.models")
    app = FastAPI()
    with_metrics(app, include_auth(app, settings=settings))
    with Proxy(spare.url) as proxy:
        async with served(settings, "postgres", proxy.url, app=app) as (client, auth):
            login = {"email": EMAIL, "password": PASSWORD}
            assert (await client.post("/auth/login", json=login)).status_code == 200
            assert (await scrape(client))("auth_database_up") == 1
            getattr(proxy, fault)()
            seen = await scrape(client)
            assert seen("auth_database_up") == 0
            assert math.isnan(seen("auth_outbox_mails", state="dead"))
            assert math.isnan(seen("auth_outbox_oldest_seconds"))
            assert seen("auth_events_total", event="login", outcome="success") == 1
            assert (await auth.ready()).reason is NotReady.UNAVAILABLE
            proxy.recover()
            async with asyncio.timeout(60):
                while (await scrape(client))("auth_database_up") != 1:
                    await asyncio.sleep(0.1)


WORKER = """
import asyncio, sys
import httpx
from fastapi import FastAPI, Response
from tortoise import Tortoise
from fastapi_pluggable_auth import AuthSettings, include_auth, metrics

settings = AuthSettings(_env_file=None, jwt_secret={secret!r}, bcrypt_rounds=4, email_provider="memory")
app = FastAPI()
auth = include_auth(app, settings=settings)
exposed = metrics.prometheus(auth)

@app.get("/metrics")
async def scrape() -> Response:
    return await exposed.response()

async def main(logins: int) -> None:
    await Tortoise.init(db_url={url!r}, modules={{"models": ["fastapi_pluggable_auth.models"]}})
    await Tortoise.generate_schemas()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        for _ in range(logins):
            wrong = {{"email": "nobody@example.com", "password": "wrong"}}
            assert (await client.post("/auth/login", json=wrong)).status_code == 401
        print((await client.get("/metrics")).text)
    await auth.close()
    await Tortoise.close_connections()

asyncio.run(main(int(sys.argv[1])))
"""


def test_a_scrape_of_one_worker_has_the_sum_of_all(tmp_path: Path) -> None:
    """As prometheus-client counts for several processes: in files of a folder."""
    (tmp_path / "files").mkdir()
    script = WORKER.format(secret=SECRET, url=f"sqlite://{tmp_path / 'app.sqlite3'}")
    root = str(Path(__file__).parent.parent)
    environment = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "files"), "PYTHONPATH": root}
    seen = {}
    for logins in (3, 2):
        command = [sys.executable, "-c", script, str(logins)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        seen[logins] = Scrape(done.stdout)
    failed = partial(seen[2], "auth_events_total", event="login", outcome="failure")
    assert failed(reason="invalid_credentials") == 5
    assert seen[2]("auth_hashing_seconds_count") == 5
    assert seen[2]("auth_database_up") == 1
    assert seen[2]("auth_hashing_waiting") == 0
    assert not {label for each in seen[2].samples for label in each.labels} - {
        *("event", "outcome", "reason", "kind", "state", "table", "le")
    }


def test_an_app_without_metrics_imports_nothing_for_them() -> None:
    work = (
        "import sys; sys.modules['prometheus_client'] = None;"
        "from fastapi import FastAPI; from fastapi_pluggable_auth import AuthSettings, include_auth;"
        f"include_auth(FastAPI(), settings=AuthSettings(_env_file=None, jwt_secret={SECRET!r}));"
        "assert 'fastapi_pluggable_auth.metrics' not in sys.modules\n"
        "try:\n    from fastapi_pluggable_auth import metrics\n"
        "except ImportError as error:\n    print(error)"
    )
    command = [sys.executable, "-c", work]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    assert told == "Metrics need prometheus-client: pip install 'fastapi-pluggable-auth[metrics]'\n"


def test_metrics_of_one_app_are_registered_once(settings: AuthSettings) -> None:
    registry = CollectorRegistry()
    auth = Auth(settings)
    metrics.prometheus(auth, registry=registry)
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        metrics.prometheus(auth, registry=registry)


async def test_what_hears_a_figure_returns_at_once_and_breaks_nothing(
    auth: Auth, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[Measurement] = []

    @auth.on(PasswordHashed)
    def broken(figure: PasswordHashed) -> None:
        raise ZeroDivisionError

    auth.on(Measurement)(heard.append)
    assert (await auth.hasher.hash(PASSWORD)).startswith("$2b$")
    assert [type(each) for each in heard] == [PasswordHashed]
    assert [line.levelno for line in caplog.records if "PasswordHashed" in line.message] == [logging.ERROR]
    with pytest.raises(TypeError, match="is async, and nothing waits for it"):

        @auth.on(PasswordHashed)
        async def waits(figure: PasswordHashed) -> None: ...


async def test_the_page_lists_every_metric_with_its_labels(
    client: httpx.AsyncClient, account: Account
) -> None:
    rows = re.findall(r"^\| `(auth_\w+)` \|([^|]*)\|", PAGE, re.MULTILINE)
    listed = {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows}
    seen = await scrape(client)
    exposed: dict[str, set[str]] = {}
    for family in seen.families.values():
        if not family.name.endswith("_created"):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            labels = {label for sample in family.samples for label in sample.labels} - {"le"}
            exposed[name] = labels
    exposed["auth_purged_rows_total"] = {"table"}  # before the first purge there is none
    assert listed == exposed


@needs_promtool
async def test_prometheus_finds_nothing_to_mend_in_the_answer(
    client: httpx.AsyncClient, account: Account, auth: Auth
) -> None:
    """Its own linter, for names, units and help texts as well."""
    await purge(auth)
    text = (await scrape(client)).text
    lines = [line for line in text.splitlines() if "_created" not in line]  # of prometheus-client itself
    assert promtool.check("check", "metrics", text="\n".join(lines) + "\n") == ""


def rules() -> str:
    (found,) = [each.code for each in snippets(PRODUCTION) if each.title == "auth.rules.yml"]
    return found


async def test_the_alert_rules_name_metrics_that_there_are(
    client: httpx.AsyncClient, account: Account, auth: Auth
) -> None:
    await purge(auth)
    seen = await scrape(client)
    names = {sample.name for sample in seen.samples}
    (group,) = yaml.safe_load(rules())["groups"]
    used = {name for rule in group["rules"] for name in re.findall(r"\bauth_\w+", rule["expr"])}
    assert len(group["rules"]) == 8
    assert used <= names
    for rule in group["rules"]:
        events = set(re.findall(r'event="(\w+)"', rule["expr"]))
        assert events <= auth.features.events.keys()
        for reasons in re.findall(r'reason=~"([\w|]+)"', rule["expr"]):
            assert set(reasons.split("|")) <= auth.features.errors.keys()
    assert EventKind.REFRESH_REUSE.value in rules()


FIRING = {
    "AuthDatabaseDown": [("auth_database_up", "0x20"), ("auth_database_up{worker='2'}", "0x20")],
    "AuthTokenStolen": [
        ('auth_events_total{event="refresh_reuse",outcome="failure",reason=""}', "0x10 1x10")
    ],
    "AuthLoginsFail": [
        ('auth_events_total{event="login",outcome="failure",reason="invalid_credentials"}', "0+60x1500")
    ],
    "AuthThrottled": [('auth_events_total{event="login",outcome="failure",reason="throttled"}', "0+120x60")],
    "AuthHashingOverloaded": [("auth_hashing_refused_total", "0+3x60")],
    "AuthMailStuck": [("auth_outbox_oldest_seconds", "1500+60x60")],
    "AuthMailDies": [('auth_outbox_mails{state="dead"}', "2+1x90")],
    "AuthPurgeLate": [("auth_purge_timestamp_seconds", "0x600")],
}
"""Series of a value a minute by which each alert fires, in the notation of Prometheus."""
QUIET = [
    ("auth_database_up", "0 1x1500"),
    ("auth_database_up{worker='2'}", "0x1500"),
    ('auth_events_total{event="refresh_reuse",outcome="failure",reason=""}', "0x1500"),
    ('auth_events_total{event="login",outcome="failure",reason="invalid_credentials"}', "0+6x1500"),
    ('auth_events_total{event="login",outcome="failure",reason="throttled"}', "0+1x1500"),
    ("auth_hashing_refused_total", "0x1500"),
    ("auth_outbox_oldest_seconds", "0 600 0x1500"),
    ('auth_outbox_mails{state="dead"}', "3x1500"),
    ("auth_purge_timestamp_seconds", "0+60x1500"),
]


@needs_promtool
def test_each_alert_fires_when_it_should_and_none_on_a_quiet_day(tmp_path: Path) -> None:
    """By Prometheus itself, which reads the rules of the page."""
    (tmp_path / "auth.rules.yml").write_text(rules())
    (group,) = yaml.safe_load(rules())["groups"]
    names = [rule["alert"] for rule in group["rules"]]
    assert set(names) == FIRING.keys()
    assert "8 rules found" in promtool.check("check", "rules", tmp_path / "auth.rules.yml")
    by_name = {rule["alert"]: rule for rule in group["rules"]}

    def alert(name: str, *, fires: bool) -> dict[str, object]:
        rule = by_name[name]
        firing = {"exp_labels": rule["labels"], "exp_annotations": rule["annotations"]}
        return {
            "eval_time": "1440m" if not fires else _when(name),
            "alertname": name,
            "exp_alerts": [firing] * fires,
        }

    def series(values: list[tuple[str, str]]) -> list[dict[str, str]]:
        return [{"series": name, "values": text} for name, text in values]

    tests: list[dict[str, object]] = [
        {
            "interval": "1m",
            "input_series": series(values),
            "alert_rule_test": [alert(name, fires=True)],
        }
        for name, values in FIRING.items()
    ]
    quiet = [alert(name, fires=False) for name in names]
    tests.append({"interval": "1m", "input_series": series(QUIET), "alert_rule_test": quiet})
    spec = {"rule_files": ["auth.rules.yml"], "evaluation_interval": "1m", "tests": tests}
    (tmp_path / "test.yml").write_text(json.dumps(spec))
    assert "SUCCESS" in promtool.check("test", "rules", tmp_path / "test.yml")


def _when(name: str) -> str:
    """The minute at which an alert has to fire."""
    return {"AuthPurgeLate": "400m", "AuthMailDies": "80m", "AuthLoginsFail": "30m"}.get(name, "16m")
