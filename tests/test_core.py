from tests.conftest import Account


async def test_a_new_user_signs_up_verifies_logs_in_and_is_known(account: Account) -> None:
    me = await account.me()
    assert me.status_code == 200, me.text
    assert me.json()["is_verified"] is True
    r = await account.refresh()
    assert r.status_code == 200, r.text
    r2 = await account.refresh()
    assert r2.status_code == 401 and r2.json()["code"] == "refresh_raced", r2.text
    print(me.headers)
