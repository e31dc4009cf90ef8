"""Redirect URIs of OAuth clients (RFC 6749 section 3.1.2, RFC 8252 section 7, RFC 9700 section 4.1)."""

from __future__ import annotations

import pytest

from fastapi_pluggable_auth.features.oauth_server.redirects import is_local, matches, redirect_problem


@pytest.mark.parametrize(
    "uri",
    [
        "https://app.example.com/callback",
        "https://app.example.com:8443/callback?tenant=a%20b",
        "https://claude.ai/api/mcp/auth_callback",
        "http://127.0.0.1/callback",
        "http://127.0.0.1:33418/",
        "http://[::1]:8080/callback",
        "http://localhost/callback",
        "com.example.app:/oauth",
        "com.example.app://callback",
    ],
)
def test_a_client_may_have_https_its_own_machine_and_a_private_scheme(uri: str) -> None:
    assert redirect_problem(uri) is None


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "/callback",
        "//evil.example/callback",
        "https:///callback",
        "https://app.example.com/callback#x",
        "https://app.example.com/callback#",
        "https://app.example.com/*",
        "https://*.example.com/callback",
        "https://kim@app.example.com/callback",
        "https://app.example.com\\@evil.example/callback",
        "https://app.example.com/a/../callback",
        "https://app.example.com/%2E%2e/callback",
        "https://app.example.com:0/callback",
        "https://app.example.com:99999/callback",
        "https://[::1/callback",
        "https://app.example.com/call back",
        "https://app.example.com/callback\n",
        "https://bücher.example/callback",
        "http://app.example.com/callback",
        "http://127.0.0.1.evil.example/callback",
        "http://127.0.0.2/callback",
        "http://10.0.0.1/callback",
        "javascript:alert(1)",
        "data:text/html,x",
        "file:///etc/passwd",
        "myapp:/callback",
        "myapp://callback",
        "urn:ietf:wg:oauth:2.0:oob",
        "https://app.example.com/" + "x" * 2048,
    ],
)
def test_no_other_may_be_registered_and_why_is_said(uri: str) -> None:
    assert redirect_problem(uri)


HTTPS = "https://app.example.com/callback"


@pytest.mark.parametrize(
    "asked",
    [
        "https://app.example.com/callback/",
        "https://app.example.com/callback?x=1",
        "https://app.example.com/callback#x",
        "https://app.example.com/Callback",
        "https://APP.example.com/callback",
        "HTTPS://app.example.com/callback",
        "http://app.example.com/callback",
        "https://app.example.com:443/callback",
        "https://app.example.com.evil.example/callback",
        "https://app.example.com@evil.example/callback",
        "https://evil.example/https://app.example.com/callback",
        "https://app.example.com/x/../callback",
        "https://app.example.com/callback/../x",
        "https://app.example.com/%63allback",
        "https://app.example.com/callback%00",
        "https://app.example.com/callback ",
        "https://аpp.example.com/callback",
        "",
    ],
)
def test_an_address_is_asked_for_letter_by_letter(asked: str) -> None:
    """RFC 9700 section 4.1.3, and the tricks of section 4.1.1: dots, user names, case, ports, look-alikes."""
    assert matches([HTTPS], HTTPS)
    assert not matches([HTTPS], asked)


@pytest.mark.parametrize(
    ("registered", "asked"),
    [
        ("http://127.0.0.1/callback", "http://127.0.0.1:51004/callback"),
        ("http://127.0.0.1:33418/", "http://127.0.0.1:60005/"),
        ("http://127.0.0.1:33418/", "http://127.0.0.1/"),
        ("http://[::1]/callback", "http://[::1]:1/callback"),
        ("http://127.0.0.1", "http://127.0.0.1:65535"),
    ],
)
def test_the_port_of_the_users_own_machine_is_free(registered: str, asked: str) -> None:
    """RFC 8252 section 7.3."""
    assert matches([registered], asked)
    assert is_local(asked)


def test_the_port_of_localhost_is_free_where_a_document_names_none() -> None:
    """github.com/anthropics/claude-code/issues/37767; RFC 8252 section 8.3 advises against the name."""
    registered, asked = ["http://localhost/callback"], "http://localhost:58135/callback"
    assert matches(registered, asked, localhost=True)
    assert not matches(registered, asked)
    assert not matches(["http://localhost:3118/callback"], asked, localhost=True)


@pytest.mark.parametrize(
    ("registered", "asked"),
    [
        ("http://127.0.0.1/callback", "http://127.0.0.1:0/callback"),
        ("http://127.0.0.1/callback", "http://127.0.0.1:65536/callback"),
        ("http://127.0.0.1/callback", "http://127.0.0.1:/callback"),
        ("http://127.0.0.1/callback", "http://127.0.0.1:80:80/callback"),
        ("http://127.0.0.1/callback", "http://127.0.0.1:８０/callback"),
        ("http://127.0.0.1/callback", "http://127.0.0.1:80@evil.example/callback"),
        ("http://127.0.0.1/callback", "http://127.0.0.1.evil.example/callback"),
        ("http://127.0.0.1/callback", "http://127.0.0.1:1/other"),
        ("http://127.0.0.1/callback", "http://127.0.0.1:1/callback?x"),
        ("http://127.0.0.1/callback", "http://127.0.0.1:1/callback#x"),
        ("http://127.0.0.1/callback", "https://127.0.0.1:1/callback"),
        ("http://127.0.0.1/callback", "http://localhost:1/callback"),
        ("http://127.0.0.1/callback", "http://[::1]:1/callback"),
        ("http://127.0.0.1", "http://127.0.0.1:1.evil.example"),
        ("http://localhost:3118/callback", "http://localhost:3119/callback"),
        ("https://127.0.0.1/callback", "https://127.0.0.1:1/callback"),
    ],
)
def test_nothing_but_the_port_is_free_there(registered: str, asked: str) -> None:
    assert not matches([registered], asked)
