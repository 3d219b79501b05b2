"""Every provider under contract. A new one adds its line here."""

from __future__ import annotations

from typing import cast

from tests.shared.providers import (
    harness_huggingface,
    harness_local,
    harness_modal,
    harness_openai,
    harness_together,
)
from tests.shared.providers.harness import HarnessModule

HARNESSES: dict[str, HarnessModule] = {
    "huggingface": cast(HarnessModule, harness_huggingface),
    "local": cast(HarnessModule, harness_local),
    "modal": cast(HarnessModule, harness_modal),
    "openai": cast(HarnessModule, harness_openai),
    "together": cast(HarnessModule, harness_together),
}
