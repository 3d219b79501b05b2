"""The master secret is changed while keys are read, set and deleted: nobody notices."""

import asyncio
from collections import Counter
from uuid import UUID

from pydantic import SecretStr

from shared.errors import FineFlowError
from shared.keys.crypto import KeySealer
from shared.keys.store import KeyStore
from tests.conftest import Figure
from tests.shared.keys.conftest import Bench

OLD, NEW = SecretStr("the old master secret, 32 or more chars"), SecretStr("the new master secret, 32+ chars")
LOST = SecretStr("a master secret that nobody has any more")
KEYS, READERS = 240, 4


def key_of(user: UUID, version: int = 1) -> SecretStr:
    return SecretStr(f"key {version} of {user}")


def left_of(bench: Bench, users: list[UUID] | None = None) -> int:
    """Secrets of these users (None: of all on this stack) that the new master secret does not seal."""
    sql = (
        "select count(*) filter (where key_id <> %s) + count(*) filter (where webhook_key_id <> %s)"
        " from user_api_keys where %s::uuid[] is null or user_id = any(%s)"
    )
    key_id = KeySealer(NEW).key_id
    return int(bench.rows(sql, key_id, key_id, users, users)[0][0])


async def read_all_the_time(
    stores: list[KeyStore], expected: dict[UUID, set[SecretStr]], ended: asyncio.Event, counts: Counter[str]
) -> None:
    while not ended.is_set():
        for number, (user, keys) in enumerate(expected.items()):
            try:
                opened = await stores[number % len(stores)].open(user, "openai")
                counts["right" if opened and opened.api_key in keys else "wrong"] += 1
            except FineFlowError:
                counts["failed"] += 1
            if ended.is_set():
                return


async def test_rotation_under_load_fails_no_read(bench: Bench, figure: Figure) -> None:
    users = bench.users(KEYS)
    before, first, then, after = (bench.store(*known) for known in ((OLD,), (OLD, NEW), (NEW, OLD), (NEW,)))
    await asyncio.gather(*(before.set(user, "openai", key_of(user)) for user in users))
    for user in users[:20]:
        await before.set_webhook_secret(user, "openai", SecretStr(f"webhook of {user}"))
    expected = {user: {key_of(user)} for user in users}
    changed = users[-20:]
    for user in changed:
        expected[user].add(key_of(user, 2))

    counts: Counter[str] = Counter()
    ended = asyncio.Event()
    # Servers are replaced one by one, so those with the former settings read on.
    reading = [
        asyncio.create_task(read_all_the_time([first, then], expected, ended, counts)) for _ in range(READERS)
    ]
    setting = asyncio.create_task(_set_again(first, changed))
    rotated = calls = 0
    while left_of(bench, users) or not setting.done():
        done, _ = await then.rotate(25)
        rotated, calls = rotated + done, calls + 1
        assert calls < 200, left_of(bench, users)
    await setting
    during = counts.total()
    ended.set()
    await asyncio.gather(*reading)

    ended = asyncio.Event()
    final = {user: {key_of(user, 2 if user in changed else 1)} for user in users}
    afterwards = asyncio.create_task(read_all_the_time([after], final, ended, counts))
    while counts.total() < during + 2 * KEYS:
        await asyncio.sleep(0.01)
    ended.set()
    await afterwards
    figure(
        f"rotation: {KEYS} keys, {rotated} sealed anew in {calls} calls, {during} reads meanwhile, "
        f"{counts.total() - during} with the old secret gone: "
        f"{counts['failed']} failed, {counts['wrong']} wrong"
    )
    assert (counts["failed"], counts["wrong"]) == (0, 0)
    assert during > KEYS
    assert rotated >= KEYS + 20
    for user in users[:20]:
        assert await after.open_webhook_secret(user, "openai") == SecretStr(f"webhook of {user}")
    key_ids = "select distinct key_id from user_api_keys where user_id = any(%s)"
    assert bench.rows(key_ids, users) == [(KeySealer(NEW).key_id,)]


async def _set_again(store: KeyStore, users: list[UUID]) -> None:
    """By a server that still seals with the old secret."""
    for user in users:
        await store.set(user, "openai", key_of(user, 2))


async def test_a_key_set_meanwhile_wins(bench: Bench) -> None:
    (user,) = bench.users(1)
    await bench.store(OLD).set(user, "openai", key_of(user))
    (row,) = bench.rows("select ciphertext from user_api_keys where user_id = %s", user)
    await bench.store(NEW).set(user, "openai", key_of(user, 2))
    done = await bench.db.call(
        "reseal_api_key", user_id=str(user), provider="openai", old=row[0], new="late", key_id="late"
    )
    assert done is False
    opened = await bench.store(NEW).open(user, "openai")
    assert opened is not None
    assert opened.api_key == key_of(user, 2)


async def test_what_cannot_be_opened_is_left_and_counted(bench: Bench) -> None:
    known, tampered, lost = bench.users(3)
    await bench.store(OLD).set(known, "openai", key_of(known))
    await bench.store(OLD).set(tampered, "openai", key_of(tampered))
    await bench.store(LOST).set(lost, "openai", key_of(lost))
    bench.rows("update user_api_keys set base_url = 'https://x.example' where user_id = %s", tampered)
    before = left_of(bench)
    rotated, left = await bench.store(NEW, OLD).rotate(50)
    assert (rotated, left) == (1, before - 1)
    assert await bench.store(NEW, OLD).rotate(50) == (0, left)
    invalid_kept = "select invalid_at from user_api_keys where user_id = %s"
    assert bench.rows(invalid_kept, known) == [(None,)]


async def test_a_new_seal_is_no_new_key(bench: Bench) -> None:
    (user,) = bench.users(1)
    await bench.store(OLD).set(user, "openai", key_of(user))
    opened = await bench.store(OLD).open(user, "openai")
    assert opened is not None
    await bench.store(NEW, OLD).rotate(50)
    assert await bench.store(NEW).mark_invalid(user, "openai", opened, "refused")
    marked = "select invalid_reason from user_api_keys where user_id = %s"
    assert bench.rows(marked, user) == [("refused",)]
