"""What a model costs by its published price. Knows names and numbers; what is not listed has no price, not a guessed one."""

from collections.abc import Sequence

Price = tuple[str, float, float]

# (model, USD per million input tokens, USD per million output tokens): https://platform.claude.com/docs/about-claude/pricing.
PRICES: tuple[Price, ...] = (
    ("claude-fable-5-1", 10.0, 50.0),
    ("claude-opus-5-5", 4.0, 20.0),
    ("claude-opus-5", 5.0, 25.0),
    ("claude-opus-4-7", 5.0, 25.0),
    ("claude-opus-4-6", 5.0, 25.0),
    ("claude-opus-4-5", 5.0, 25.0),
    ("claude-sonnet-5-5", 2.0, 10.0),
    ("claude-sonnet-5", 2.0, 10.0),
    ("claude-sonnet-4-6", 3.0, 15.0),
    ("claude-sonnet-4-5", 3.0, 15.0),
    ("claude-haiku-4-5", 1.0, 5.0),
)


# Of the price of a token that is read plainly.
CACHE_WRITE, CACHE_READ = 1.25, 0.1


def price_of(prices: Sequence[Price], model: str) -> tuple[float, float] | None:
    """USD per million tokens read and written, or None; dated releases cost what their model does, the first entry counts."""
    for name, usd_in, usd_out in prices:
        release = model.removeprefix(name + "-")
        # claude-opus-5-5 is no release of claude-opus-5, claude-haiku-4-5-20251001 is one of claude-haiku-4-5
        if model == name or (release != model and len(release) == 8 and release.isdecimal()):
            return usd_in, usd_out
    return None


def cost_usd(
    prices: Sequence[Price], model: str, tokens_in: int | None, tokens_out: int | None, written: int = 0, cached: int = 0
) -> float | None:
    """The price of one answer, or None where tokens or model are unknown.

    Of the tokens read, `written` went into the prompt cache and `cached` came out of it.
    """
    price = price_of(prices, model)
    if price is None or tokens_in is None or tokens_out is None:
        return None
    read = tokens_in - written - cached + CACHE_WRITE * written + CACHE_READ * cached
    return (read * price[0] + tokens_out * price[1]) / 1e6
