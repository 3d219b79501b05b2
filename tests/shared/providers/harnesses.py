"""Every provider under contract. A new one adds its line here."""

from __future__ import annotations

from typing import cast

from tests.shared.providers import harness_local
from tests.shared.providers.harness import HarnessModule

HARNESSES: dict[str, HarnessModule] = {
    "local": cast(HarnessModule, harness_local),
}
