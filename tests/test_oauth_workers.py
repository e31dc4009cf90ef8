"""The OAuth server on two workers that share a database, which is all that they share."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from . import databases, live
from .conftest import EMAIL, PASSWORD
from .form_browser import BROWSER, FormBrowser
from .operated import OPENID_APP, Operated, openid_environment
from .spare_database import SpareDatabase

DEVICE = "urn:ietf:params:oauth:grant-type:device_code"


@dataclass(frozen=True)
class Workers(Operated):
    """Two of them, which are asked in turn."""

    bases: list[str]

    async def post(self, worker: int, path: str, **form: str) -> httpx.Response:
        async with httpx.AsyncClient(base_url=self.bases[worker % 2], timeout=30) as client:
            return await client.post(path, data=form)


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    if not databases.answers("postgres"):
        pytest.skip("no postgres server answers")
    folder = tmp_path_factory.mktemp("workers")
    spare = SpareDatabase("postgres", databases.spare("postgres", folder))
    asyncio.run(spare.create(models=None))
    ports = [live.free_port(), live.free_port()]
    environment = openid_environment(folder, spare.url, ports[0])
    with (
        live.served(folder, environment, folder / "log0", OPENID_APP, ports[0]) as (first, _),
        live.served(folder, environment, folder / "log1", OPENID_APP, ports[1]) as (second, _),
    ):
        workers = Workers(folder, environment, OPENID_APP, [first, second])
        workers.add_user()
        yield workers


async def test_one_network_registers_as_many_clients_as_is_allowed_however_many_workers_there_are(
    workers: Workers,
) -> None:
    """RFC 7591 section 5: a flood of registrations."""

    async def register(worker: int) -> int:
        async with httpx.AsyncClient(base_url=workers.bases[worker % 2], timeout=30) as client:
            body = {"redirect_uris": ["http://127.0.0.1/callback"], "token_endpoint_auth_method": "none"}
            return (await client.post("/oauth/register", json=body)).status_code

    statuses = [status for part in range(3) for status in await asyncio.gather(*map(register, range(10)))]
    assert (statuses.count(201), statuses.count(429)) == (20, 10)


async def test_a_device_that_is_let_in_at_one_worker_gets_tokens_once_at_all(workers: Workers) -> None:
    """RFC 8628 section 3.5; the code of two who have it ends what it gave."""
    device = workers.client("--grant", "device")
    begun = (await workers.post(1, "/oauth/device_authorization", **device, scope="notes")).json()
    async with httpx.AsyncClient(base_url=workers.bases[0], headers=BROWSER) as client:
        browser = FormBrowser(client)
        page = await browser.open("/account/device")
        page = await browser.submit("sign-in", email=EMAIL, password=PASSWORD)
        page = await browser.submit("device", user_code=begun["user_code"])
        page = await browser.submit("decide", decision="allow")
        assert page.status == 200, page.text
    asked = {**device, "grant_type": DEVICE, "device_code": begun["device_code"]}
    answers = await asyncio.gather(*(workers.post(each, "/oauth/token", **asked) for each in range(8)))
    got = [answer.json()["access_token"] for answer in answers if answer.status_code == 200]
    assert len(got) <= 1
    assert {answer.status_code for answer in answers} <= {200, 400}
    async with httpx.AsyncClient(base_url=workers.bases[1]) as client:
        for token in got:
            headers = {"Authorization": f"Bearer {token}"}
            assert (await client.get("/api/notes", headers=headers)).status_code == 401


async def test_what_one_worker_gives_the_other_knows_and_what_one_ends_is_over_at_the_other(
    workers: Workers,
) -> None:
    """RFC 7662 section 4, and RFC 7009."""
    made = workers.client("--confidential", "--grant", "client-credentials")
    asked = {**made, "grant_type": "client_credentials", "resource": "https://billing.example"}
    token = (await workers.post(0, "/oauth/token", **asked)).json()["access_token"]
    assert (await workers.post(1, "/oauth/introspect", **made, token=token)).json()["active"]
    assert (await workers.post(1, "/oauth/revoke", **made, token=token)).status_code == 200
    assert (await workers.post(0, "/oauth/introspect", **made, token=token)).json() == {"active": False}
