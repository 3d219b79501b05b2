"""What the environment may say."""

import pytest

from shared.config import Settings

REQUIRED = {
    "supabase_url": "https://project.supabase.example",
    "supabase_publishable_key": "p",
    "supabase_secret_key": "s",
    "api_key_encryption_secret": "x" * 32,
    "function_secret": "y" * 16,
}


def settings(**changed: str) -> Settings:
    return Settings.model_validate(REQUIRED | changed)


def test_old_master_secrets_are_a_list_in_one_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(settings().encryption_secrets) == 1
    monkeypatch.setenv("API_KEY_ENCRYPTION_SECRETS_OLD", f"{'a' * 32}, {'b' * 40},")
    read = settings().encryption_secrets
    assert [secret.get_secret_value() for secret in read] == ["x" * 32, "a" * 32, "b" * 40]
    monkeypatch.setenv("API_KEY_ENCRYPTION_SECRETS_OLD", "short")
    with pytest.raises(ValueError, match="api_key_encryption_secrets_old") as refused:
        settings()
    assert "short'" not in str(refused.value)


def test_private_addresses_are_for_ones_own_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not settings().reaches_private_addresses
    assert settings(supabase_url="http://127.0.0.1:54321").reaches_private_addresses
    monkeypatch.setenv("FINEFLOW_ALLOW_PRIVATE_ADDRESSES", "true")
    assert settings().reaches_private_addresses
