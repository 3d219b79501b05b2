"""A sealed key opens for its own row and for no other."""

from typing import Any
from uuid import uuid4

import pytest
from pydantic import SecretStr

from shared.keys.crypto import KeyDoesNotOpen, KeySealer, derive

KEY = SecretStr("sk-canary-0123456789")
MASTER = SecretStr("a master secret of more than 32 characters")
NEXT_MASTER = SecretStr("another master secret of 32 characters or more")
SEALER = KeySealer(MASTER)
USER = uuid4()


def reopen(sealer: KeySealer, sealed: str, *, key_id: str = SEALER.key_id) -> SecretStr:
    return sealer.open(sealed, key_id=key_id, user_id=USER, provider="openai")


def test_a_key_comes_back_as_it_went_in() -> None:
    sealed = SEALER.seal(KEY, user_id=USER, provider="openai")
    assert reopen(SEALER, sealed) == KEY
    assert "canary" not in sealed


def test_the_same_key_never_gives_the_same_text() -> None:
    assert len({SEALER.seal(KEY, user_id=USER, provider="openai") for _ in range(50)}) == 50


@pytest.mark.parametrize(
    "changed",
    [
        {"user_id": uuid4()},
        {"provider": "gemini"},
        {"base_url": "https://elsewhere.example/v1"},
        {"purpose": "v1/webhook"},
    ],
    ids=["another user", "another provider", "another address", "another column"],
)
def test_a_swapped_ciphertext_is_refused(changed: dict[str, Any]) -> None:
    row: dict[str, Any] = {"user_id": USER, "provider": "openai", "base_url": None}
    sealed = SEALER.seal(KEY, **row)
    with pytest.raises(KeyDoesNotOpen, match="Set it again"):
        SEALER.open(sealed, key_id=SEALER.key_id, **row | changed)


def test_another_master_secret_opens_nothing() -> None:
    sealed = SEALER.seal(KEY, user_id=USER, provider="openai")
    other = KeySealer(NEXT_MASTER)
    assert other.key_id != SEALER.key_id
    for key_id in (SEALER.key_id, other.key_id):
        with pytest.raises(KeyDoesNotOpen):
            reopen(other, sealed, key_id=key_id)


@pytest.mark.parametrize("damaged", ["", "no base64!", "AAAA"])
def test_damage_is_told_as_such(damaged: str) -> None:
    with pytest.raises(KeyDoesNotOpen):
        reopen(SEALER, damaged)


def test_what_a_former_secret_sealed_opens_and_new_seals_are_the_current_ones() -> None:
    sealed = SEALER.seal(KEY, user_id=USER, provider="openai")
    both = KeySealer(NEXT_MASTER, MASTER)
    assert reopen(both, sealed) == KEY
    assert both.other_key_ids == [SEALER.key_id]
    renewed = both.seal(KEY, user_id=USER, provider="openai")
    assert reopen(KeySealer(NEXT_MASTER), renewed, key_id=both.key_id) == KEY


def test_parts_that_run_together_do_not_open_each_other() -> None:
    sealed = SEALER.seal(KEY, user_id=USER, provider="openai", base_url="_compatible")
    with pytest.raises(KeyDoesNotOpen):
        SEALER.open(sealed, key_id=SEALER.key_id, user_id=USER, provider="openai_compatible")


def test_each_purpose_has_a_key_of_its_own() -> None:
    secret = SecretStr("x" * 32)
    assert derive(secret, "provider-keys") != derive(secret, "trainer-tokens")
