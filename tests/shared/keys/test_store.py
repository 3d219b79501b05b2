"""What is remembered of a key, and for how long."""

import pytest
from pydantic import SecretStr

from shared.errors import NotFound, ProviderKeyInvalid
from shared.keys.crypto import KeyDoesNotOpen
from shared.log import redact
from tests.shared.keys.conftest import Bench

MASTER = SecretStr("the master secret of these tests, 32+")
OTHER = SecretStr("a master secret that was lost, 32 or more")
KEY, NEXT = SecretStr("0f1e2d3c4b5a69788796a5b4c3d2e1f0"), SecretStr("ffeeddccbbaa99887766554433221100")


async def test_no_key_an_unreadable_one_and_a_refused_one_are_told_apart(bench: Bench) -> None:
    (user,) = bench.users(1)
    keys = bench.store(MASTER)
    assert await keys.open(user, "together") is None
    await bench.store(OTHER).set(user, "together", KEY)
    with pytest.raises(KeyDoesNotOpen, match="Set it again"):
        await keys.open(user, "together")
    await keys.set(user, "together", KEY, "https://api.example/v1")
    opened = await keys.open(user, "together")
    assert opened is not None
    assert (opened.api_key, opened.base_url) == (KEY, "https://api.example/v1")
    assert await keys.mark_invalid(user, "together", opened, "It was revoked.")
    with pytest.raises(ProviderKeyInvalid, match=r"ends in e1f0 was refused: It was revoked\."):
        await keys.open(user, "together")
    assert await keys.open_anyway(user, "together") == opened


async def test_only_the_key_that_was_refused_is_marked(bench: Bench) -> None:
    (user,) = bench.users(1)
    keys = bench.store(MASTER)
    await keys.set(user, "openai", KEY)
    first = await keys.open(user, "openai")
    assert first is not None
    await keys.set(user, "openai", NEXT)
    assert not await keys.mark_invalid(user, "openai", first, "refused")
    assert not await keys.mark_valid(user, "openai", first, account="a", permissions=())
    second = await keys.open(user, "openai")
    assert second is not None
    assert second.api_key == NEXT

    assert await keys.mark_invalid(user, "openai", second, "refused")
    assert await keys.mark_invalid(user, "openai", second, "refused again"), "a mark is no change of the key"
    assert await keys.mark_valid(user, "openai", second, account="ada", permissions=("read", "write"))
    assert await keys.open(user, "openai") == second
    (status,) = await keys.status(user)
    assert (status["account"], status["permissions"]) == ("ada", ["read", "write"])
    await keys.delete(user, "openai")
    assert not await keys.mark_invalid(user, "openai", second, "refused")


async def test_a_new_key_ends_what_was_known_of_the_old_one(bench: Bench) -> None:
    (user,) = bench.users(1)
    keys = bench.store(MASTER)
    await keys.set(user, "openai", KEY, validated=True, account="ada", permissions=("write",))
    opened = await keys.open(user, "openai")
    assert opened is not None
    await keys.mark_invalid(user, "openai", opened, "refused")
    await keys.set(user, "openai", NEXT)
    (status,) = await keys.status(user)
    names = ("account", "validated_at", "invalid_at", "invalid_reason")
    assert [status[name] for name in names] == [None] * 4
    assert status["permissions"] == []


async def test_a_refusal_that_quotes_the_key_is_stored_without_it(bench: Bench) -> None:
    (user,) = bench.users(1)
    keys = bench.store(MASTER)
    await keys.set(user, "together", KEY)
    opened = await keys.open(user, "together")
    assert opened is not None
    await keys.mark_invalid(user, "together", opened, f"Bad key {KEY.get_secret_value()}! " + "x" * 900)
    ((reason,),) = bench.rows("select invalid_reason from user_api_keys where user_id = %s", user)
    assert reason.startswith("Bad key [redacted]!")
    assert len(reason) == 500
    assert KEY.get_secret_value() not in redact(f"a header: {KEY.get_secret_value()}")


async def test_a_webhook_secret_opens_for_its_provider_alone(bench: Bench) -> None:
    (user,) = bench.users(1)
    keys = bench.store(MASTER)
    secret = SecretStr("whsec_Y2FuYXJ5")
    assert await keys.open_webhook_secret(user, "openai") is None
    with pytest.raises(NotFound):
        await keys.set_webhook_secret(user, "openai", secret)
    await keys.set(user, "openai", KEY)
    assert await keys.open_webhook_secret(user, "openai") is None
    await keys.set_webhook_secret(user, "openai", secret)
    await keys.set(user, "openai", NEXT)
    assert await keys.open_webhook_secret(user, "openai") == secret
    await keys.set(user, "together", KEY)
    bench.rows(
        "update user_api_keys t set webhook_secret = o.webhook_secret, webhook_key_id = o.webhook_key_id"
        " from user_api_keys o where t.user_id = o.user_id and t.user_id = %s"
        " and t.provider = 'together' and o.provider = 'openai'",
        user,
    )
    with pytest.raises(KeyDoesNotOpen):
        await keys.open_webhook_secret(user, "together")
