"""Documents from addresses that strangers name: what is fetched, and what no such address gets the app to
do (OWASP ASVS 5.0 1.3.6, server-side request forgery)."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fastapi_pluggable_auth.security import fetching
from fastapi_pluggable_auth.security.fetching import Fetcher, FetchError, HostDownError, resolve
from fastapi_pluggable_auth.security.public_addresses import is_public

from .document_host import DocumentHost, answer, trusting

URL = "https://app.example.com/oauth/client.json"


@pytest.fixture
async def host() -> AsyncIterator[DocumentHost]:
    async with DocumentHost("app.example.com").serving() as host:
        host.documents[URL] = {"client_id": URL}
        yield host


@pytest.mark.parametrize(
    "inside",
    [
        *("127.0.0.1", "0.1.2.3", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254"),
        *("168.63.129.16", "192.0.0.8", "192.88.99.1", "198.18.0.1", "203.0.113.1", "224.0.0.1", "240.0.0.1"),
        *("255.255.255.255", "::", "::1", "::127.0.0.1", "fe80::1", "fe80::1%lo", "fc00::1", "fd00:ec2::254"),
        *("fec0::1", "ff02::1", "2001:db8::1", "3fff::1", "5f00::1", "100::1", "::ffff:127.0.0.1"),
        *("::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::808:808"),
        *("2002:7f00:1::1", "2002:808:808::1", "2001:0:808:808:8000:63bf:3fff:fdd2", "::ffff:0:127.0.0.1"),
    ],
)
def test_no_address_but_of_the_public_internet_is_one_however_it_is_wrapped(inside: str) -> None:
    """Also as IPv4 in IPv6 (RFC 4291 section 2.5.5), NAT64 (RFC 6052), 6to4 (RFC 3056), Teredo (RFC 4380)."""
    assert not is_public(inside)


@pytest.mark.parametrize(
    "outside", ["93.184.216.34", "8.8.8.8", "2606:4700::6812:202f", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_hosts_of_the_internet_have_public_addresses_also_through_nat64(outside: str) -> None:
    assert is_public(outside)


async def test_the_document_comes_by_tls_from_the_address_that_was_found_by_the_name_that_was_asked(
    host: DocumentHost,
) -> None:
    host.cache_control = "public, max-age=600"
    fetched = await host.fetcher().fetch(URL)
    assert (fetched.document, fetched.cache_control) == ({"client_id": URL}, "public, max-age=600")
    assert (host.names_shown, host.looked_up) == (["app.example.com"], ["app.example.com"])
    (request,) = host.asked
    assert request.startswith("GET /oauth/client.json HTTP/1.1\r\n")
    assert "host: app.example.com\r\n" in request.lower()
    assert not {"cookie", "authorization", "referer"} & {
        each.split(":")[0] for each in request.lower().split()
    }


async def test_a_certificate_for_another_name_is_refused(host: DocumentHost) -> None:
    with pytest.raises(HostDownError, match=r"(?i)hostname mismatch"):
        await host.fetcher().fetch("https://other.example.com/client.json")
    with pytest.raises(HostDownError, match=r"(?i)certificate"):
        await Fetcher(resolver=host.resolve, may_reach=lambda _: True).fetch(URL)
    assert not host.asked


@pytest.mark.parametrize("others", [[], [("93.184.216.34", 443)]], ids=["alone", "among public ones"])
async def test_a_name_of_an_inner_address_is_not_connected_to(
    others: list[tuple[str, int]], host: DocumentHost
) -> None:
    async def inward(name: str, port: int) -> list[tuple[str, int]]:
        return [*others, *await host.resolve(name, port)]

    with pytest.raises(FetchError, match="is not on the public internet"):
        await Fetcher(resolver=inward, trust=trusting).fetch(URL)
    for address in (
        "https://127.0.0.1/x",
        "https://[::1]/x",
        "https://[::ffff:127.0.0.1]/x",
        "https://127.1/x",
    ):
        with pytest.raises(FetchError, match="is not on the public internet"):
            await Fetcher(resolver=resolve, trust=trusting).fetch(address.replace("/x", f":{host.port}/x"))
    assert host.connections == 0


async def test_a_name_that_gets_another_address_meanwhile_changes_nothing(host: DocumentHost) -> None:
    """DNS rebinding: the answer that was checked is the one that is connected to."""
    async with DocumentHost("app.example.com").serving() as inner:
        inner.documents = {URL: {"inner": True}}
        answers = [host.port, inner.port, inner.port]

        async def rebinding(name: str, port: int) -> list[tuple[str, int]]:
            return [("127.0.0.1", answers.pop(0))]

        fetched = await host.fetcher(resolver=rebinding).fetch(URL)
        assert (fetched.document, len(answers), inner.connections) == ({"client_id": URL}, 2, 0)


async def test_no_proxy_and_no_password_of_the_environment_is_used(
    host: DocumentHost, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A proxy would look the name up again, from inside."""
    async with DocumentHost("proxy").serving() as proxy:
        for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "http_proxy", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        netrc = tmp_path / "netrc"
        netrc.write_text("default login kim password hidden\n")
        monkeypatch.setenv("NETRC", str(netrc))
        await host.fetcher().fetch(URL)
        assert (proxy.connections, "authorization" in host.asked[0].lower()) == (0, False)


async def test_a_redirect_is_not_followed(host: DocumentHost) -> None:
    there = "https://app.example.com/elsewhere"
    host.documents = {
        URL: f"HTTP/1.1 302 Found\r\nLocation: {there}\r\nContent-Length: 0\r\n\r\n".encode(),
        there: {"client_id": URL},
    }
    with pytest.raises(FetchError, match="status 302, which leads elsewhere") as raised:
        await host.fetcher().fetch(URL)
    assert (len(host.asked), raised.type) == (1, FetchError)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (answer({"padding": "x" * 5120}), "5120 bytes at most"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + b" " * 200_000, "5120 bytes at most"),
        (answer(b"[" * 5000), "not JSON of"),
        (answer(b'{"n": ' + b"1" * 5000 + b"}"), "not JSON of"),
        (answer(b"<html>"), "not JSON of"),
        (answer(["x"]), "not a JSON object"),
        (answer({}, kind="text/html"), "not JSON, but text/html"),
        (answer(None), "status 404"),
        (answer({}, status=204), "status 204"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\n\r\n"
            + gzip.compress(json.dumps({"padding": " " * 1_000_000}).encode()),
            "not JSON of",
            id="packed",  # the time is in it
        ),
    ],
)
async def test_what_is_not_a_small_json_object_is_refused(bad: bytes, why: str, host: DocumentHost) -> None:
    host.documents[URL] = bad
    with pytest.raises(FetchError, match=why) as raised:
        await host.fetcher().fetch(URL)
    assert raised.type is FetchError


async def test_a_more_specific_json_type_is_json(host: DocumentHost) -> None:
    host.documents[URL] = answer({"a": 1}, kind="application/vnd.client+json; charset=utf-8")
    assert (await host.fetcher().fetch(URL)).document == {"a": 1}


@pytest.mark.parametrize("status", [403, 429, 500, 503])
async def test_a_host_that_is_busy_or_takes_us_for_a_robot_counts_as_down(
    status: int, host: DocumentHost
) -> None:
    host.documents[URL] = answer({}, status=status)
    with pytest.raises(HostDownError, match=f"status {status}"):
        await host.fetcher().fetch(URL)


async def test_a_host_that_drips_has_the_time_of_all_in_all(
    host: DocumentHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "TIMEOUT", 0.6)

    async def drip(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{")
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.05)

    host.answers = drip
    begun = time.monotonic()
    with pytest.raises(HostDownError, match="no answer within"):
        await host.fetcher().fetch(URL)
    assert time.monotonic() - begun < 2


async def test_a_name_that_is_slow_to_resolve_takes_no_thread_of_the_app(
    host: DocumentHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody can have a name server that keeps others waiting."""
    monkeypatch.setattr(fetching, "TIMEOUT", 0.3)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(1))
    fetcher = host.fetcher(resolver=resolve)
    outcomes = await asyncio.gather(*(fetcher.fetch(URL) for _ in range(64)), return_exceptions=True)
    assert {type(each) for each in outcomes} == {HostDownError}
    begun = time.monotonic()
    await asyncio.to_thread(lambda: None)
    assert time.monotonic() - begun < 0.2


async def test_a_host_is_tried_at_each_of_its_addresses(host: DocumentHost) -> None:
    async def two(name: str, port: int) -> list[tuple[str, int]]:
        return [("127.0.0.2", 1), *await host.resolve(name, port)]

    assert (await host.fetcher(resolver=two).fetch(URL)).document == {"client_id": URL}


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("http://app.example.com/x", FetchError),
        ("file:///etc/passwd", FetchError),
        ("https://kim@app.example.com/x", FetchError),
        ("https://app.example.com:99999/x", FetchError),
        ("https://[::1/x", FetchError),
        ("https:///x", FetchError),
        (f"https://{'a' * 64}.example.com/x", HostDownError),
        ("https://no-such-host.invalid/x", HostDownError),
    ],
)
async def test_what_is_not_the_address_of_a_host_is_not_fetched(url: str, kind: type[FetchError]) -> None:
    with pytest.raises(FetchError) as raised:
        await Fetcher(trust=trusting).fetch(url)
    assert raised.type is kind


@pytest.mark.parametrize(
    "garbage",
    [b"\x17\x03\x03\x00\x20" + b"x" * 32, b"GET / HTTP/1.1\r\n\r\n" * 9, b"\x15\x03\x03\x00\x02\x02\x28"],
)
async def test_a_host_that_breaks_its_tls_counts_as_down(host: DocumentHost, garbage: bytes) -> None:
    """What OpenSSL says of a record that it cannot read is no error of httpx."""

    async def break_tls(writer: asyncio.StreamWriter) -> None:
        os.write(writer.get_extra_info("socket").fileno(), garbage)
        await asyncio.sleep(0.2)

    host.answers = break_tls
    with pytest.raises(HostDownError):
        await host.fetcher().fetch(URL)
