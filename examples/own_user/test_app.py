"""The app's own tests."""

from models import Note, User

from fastapi_pluggable_auth.testing import AuthClient, FakeClock, Mailbox, UserFactory


async def test_a_note_belongs_to_its_author(auth_client: AuthClient, user_factory: UserFactory[User]) -> None:
    ada = await user_factory(username="Ada", city="London")
    await auth_client.sign_in(ada)
    answer = await auth_client.post("/notes", params={"text": "Hello"})
    assert answer.json() == {"text": "Hello", "by": "ada", "from": "London"}
    assert (await Note.get(owner=ada)).text == "Hello"


async def test_notes_are_for_users(auth_client: AuthClient, user_factory: UserFactory[User]) -> None:
    assert (await auth_client.post("/notes", params={"text": "Hello"})).status_code == 401
    await auth_client.sign_in(await user_factory(is_active=False))
    assert (await auth_client.post("/notes", params={"text": "Hello"})).status_code == 401
    assert not await Note.exists()


async def test_users_log_in_by_the_name_they_signed_up_with(
    auth_client: AuthClient, mailbox: Mailbox
) -> None:
    account = {"email": "ada@example.com", "password": "correct horse battery", "username": "Ada"}
    assert (await auth_client.post("/auth/signup", json=account)).status_code == 201
    assert (await auth_client.get(mailbox.link("ada@example.com"))).status_code == 200
    login = {"email": "ADA", "password": account["password"]}
    assert (await auth_client.post("/auth/login", json=login)).status_code == 200


async def test_a_session_ends(
    auth_client: AuthClient, user_factory: UserFactory[User], auth_clock: FakeClock
) -> None:
    await auth_client.sign_in(await user_factory())
    auth_clock.advance(minutes=16)
    assert (await auth_client.post("/notes", params={"text": "Hello"})).status_code == 401
