"""A sealed key opens for its own row and for no other."""

from uuid import uuid4

import pytest
from pydantic import SecretStr

from shared.keys.crypto import KeyDoesNotOpen, KeySealer, derive

KEY = SecretStr("sk-canary-0123456789")
SEALER = KeySealer(SecretStr("a master secret of more than 32 characters"))
USER = uuid4()


def test_a_key_comes_back_as_it_went_in() -> None:
    sealed = SEALER.seal(KEY, user_id=USER, provider="openai", base_url=None)
    assert SEALER.open(sealed, user_id=USER, provider="openai", base_url=None) == KEY
    assert "canary" not in sealed


def test_the_same_key_never_gives_the_same_text() -> None:
    assert len({SEALER.seal(KEY, user_id=USER, provider="openai", base_url=None) for _ in range(50)}) == 50


@pytest.mark.parametrize(
    ("user", "provider", "base_url"),
    [(uuid4(), "openai", None), (USER, "gemini", None), (USER, "openai", "https://elsewhere.example/v1")],
    ids=["another user", "another provider", "another address"],
)
def test_a_swapped_ciphertext_is_refused(user: object, provider: str, base_url: str | None) -> None:
    sealed = SEALER.seal(KEY, user_id=USER, provider="openai", base_url=None)
    with pytest.raises(KeyDoesNotOpen, match="Set it again"):
        SEALER.open(sealed, user_id=user, provider=provider, base_url=base_url)  # type: ignore[arg-type]


def test_another_master_secret_opens_nothing() -> None:
    sealed = SEALER.seal(KEY, user_id=USER, provider="openai", base_url=None)
    other = KeySealer(SecretStr("another master secret of 32 characters or more"))
    assert other.key_id != SEALER.key_id
    with pytest.raises(KeyDoesNotOpen):
        other.open(sealed, user_id=USER, provider="openai", base_url=None)


def test_parts_that_run_together_do_not_open_each_other() -> None:
    sealed = SEALER.seal(KEY, user_id=USER, provider="openai", base_url="_compatible")
    with pytest.raises(KeyDoesNotOpen):
        SEALER.open(sealed, user_id=USER, provider="openai_compatible", base_url=None)


def test_each_purpose_has_a_key_of_its_own() -> None:
    secret = SecretStr("x" * 32)
    assert derive(secret, "provider-keys") != derive(secret, "trainer-tokens")
