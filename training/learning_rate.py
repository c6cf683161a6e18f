"""How fast a run learns, step by step."""


def share_of_rate(step: int, steps: int, warmup_share: float) -> float:
    """Rises over the first `warmup_share` of the steps, then falls linearly towards zero."""
    warmup = max(1, round(warmup_share * steps))
    return min((step + 1) / warmup, max(0.0, (steps - step) / (steps - warmup + 1)))
