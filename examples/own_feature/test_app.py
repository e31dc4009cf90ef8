"""The tests of the feature, on the test kit of the package."""

import pytest
from invitations.names import InvitationSettings
from invitations.tables import Invitation

from fastapi_pluggable_auth import Auth, SecurityEvent
from fastapi_pluggable_auth.flows.purge import purge
from fastapi_pluggable_auth.models import User
from fastapi_pluggable_auth.testing import PASSWORD, AuthClient, FakeClock, Mailbox, UserFactory


@pytest.fixture
async def ada(auth_client: AuthClient, user_factory: UserFactory[User]) -> User:
    """A user who has signed in."""
    ada = await user_factory("ada@example.com")
    await auth_client.sign_in(ada)
    return ada


async def invited(client: AuthClient) -> str:
    """A code of the user who has signed in."""
    made = await client.post("/account/invitations")
    assert made.status_code == 201
    return str(made.json()["code"])


async def sign_up(client: AuthClient, email: str, code: str) -> tuple[int, str]:
    """How a signup is answered: its status and, where it is refused, why."""
    body = {"email": email, "password": PASSWORD, "invitation": code}
    answer = await client.post("/auth/signup", json=body)
    return answer.status_code, answer.json().get("code", "")


async def test_a_code_makes_one_account_and_its_maker_is_told(
    auth_client: AuthClient, ada: User, mailbox: Mailbox
) -> None:
    code = await invited(auth_client)
    assert await sign_up(auth_client, "eve@example.com", code) == (201, "")
    assert mailbox.newest(ada.email).subject == "eve@example.com has joined MyApp"
    assert await sign_up(auth_client, "bob@example.com", code) == (403, "invitation_refused")
    assert await User.all().count() == 2


async def test_nobody_signs_up_without_a_code(auth_client: AuthClient) -> None:
    for code in ("", "made-up"):
        assert await sign_up(auth_client, "eve@example.com", code) == (403, "invitation_refused")
    assert not await User.exists()


async def test_a_code_expires_and_is_purged(
    auth_client: AuthClient, ada: User, auth_clock: FakeClock, pluggable_auth: Auth
) -> None:
    pluggable_auth.features.settings_of(InvitationSettings).invitation_days = 2
    code = await invited(auth_client)
    auth_clock.advance(days=3)
    assert await sign_up(auth_client, "eve@example.com", code) == (403, "invitation_refused")
    assert (await purge(pluggable_auth))["invitation"] == 1


async def test_the_codes_of_a_user_end_with_all_access(auth_client: AuthClient, ada: User) -> None:
    await invited(auth_client)
    await auth_client.delete("/account")
    assert not await Invitation.exists()


async def test_making_one_is_an_event(auth_client: AuthClient, ada: User, pluggable_auth: Auth) -> None:
    heard: list[SecurityEvent] = []
    pluggable_auth.on(SecurityEvent)(heard.append)
    await invited(auth_client)
    assert [(event.kind, event.user_id) for event in heard] == [("invitation", ada.id)]


async def test_pages_ask_for_a_code_and_make_one(auth_client: AuthClient, ada: User) -> None:
    browser = {"Accept": "text/html"}
    assert 'name="invitation"' in (await auth_client.get("/account/sign-up", headers=browser)).text
    page = await auth_client.post("/account/invitations/form", headers=browser)
    assert "is not shown again" in page.text
    security = await auth_client.get("/account/security", headers=browser)
    assert "Open invitations: 1" in security.text
