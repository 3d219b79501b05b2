"""What answers of models cost, by the price lists in the package genai-prices; it calls nobody.

A model or a service that they do not know has no price: nothing is guessed.
"""

from __future__ import annotations

from decimal import Decimal

# What a batch costs of the usual price (platform.openai.com/docs/guides/batch,
# platform.claude.com/docs/en/build-with-claude/batch-processing and ai.google.dev/gemini-api/docs/batch-api,
# 2026-11); genai-prices knows no batches.
BATCH_SHARE = Decimal("0.5")


def inference_cost_usd(
    model: str,
    prompt_tokens: int,
    completion_tokens: int,
    *,
    vendor: str | None = None,
    address: str | None = None,
) -> Decimal | None:
    """Of one answer, in USD at today's price; None: no price is known.

    Who sells it: `vendor` as genai-prices calls it, or else who answers at `address`.
    """
    from genai_prices import Usage, calc_price  # a quarter second to import

    usage = Usage(input_tokens=prompt_tokens, output_tokens=completion_tokens)
    try:
        if vendor is not None:
            return calc_price(usage, model, provider_id=vendor).total_price
        return calc_price(usage, model, provider_api_url=address or "").total_price
    except LookupError:
        return None


def price_source() -> str:
    """Whose price lists these are, in which version."""
    from genai_prices import __version__

    return f"the price lists of genai-prices {__version__}"
