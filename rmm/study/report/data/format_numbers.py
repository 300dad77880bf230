"""Numbers as readers want them: as many digits as the Monte Carlo error supports."""

from __future__ import annotations

import math
from collections.abc import Iterable

MINUS = "\N{MINUS SIGN}"
MISSING = "\N{EN DASH}"
#: Fewer usable replications than this have no verdict.
FEW = 10


def decimals_for(mcse: Iterable[float], values: Iterable[float] = (), most: int = 4) -> int:
    """Decimals of a column: two digits of its median Monte Carlo error, or of its values.

    Parameters
    ----------
    mcse, values : iterable of float
        Not-a-number and zero are skipped; `values` counts where no error is known.
    most : int
        At most so many.
    """
    known = sorted(abs(m) for m in mcse if math.isfinite(m) and m > 0)
    if not known:
        known = sorted(abs(v) for v in values if math.isfinite(v) and v != 0)
        if not known:
            return 2
    middle = known[len(known) // 2]
    return min(most, max(0, 1 - math.floor(math.log10(middle))))


def fixed(value: float | None, decimals: int) -> str:
    """A number with fixed decimals and a true minus sign; an en dash where there is none."""
    if value is None or math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "\N{INFINITY}" if value > 0 else MINUS + "\N{INFINITY}"
    text = f"{value:.{decimals}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", MINUS)


def rate(value: float, decimals: int = 3) -> str:
    """A proportion without its leading zero, as in the field's tables: .052."""
    return fixed(value, decimals).replace("0.", ".", 1) if abs(value) < 1 else fixed(value, 2)


def rate_known_to(share: float, lower: float, upper: float) -> str:
    """A rate; with its 95% interval where it is 0 or 1, and so has no standard error."""
    if share not in (0, 1):
        return rate(share)
    return f"{rate(share)} [{rate(lower)}, {rate(upper)}]"


def uncertainty(mcse: float, lower: float, upper: float, decimals: int) -> str:
    """What stands beside a value: its Monte Carlo error, or its interval where it has none."""
    if not math.isnan(mcse):
        return f"({fixed(mcse, decimals)})"
    if math.isnan(lower) or math.isnan(upper):
        return ""
    return f"[{fixed(lower, decimals)}, {fixed(upper, decimals)}]"


def p_text(p: float) -> str:
    """A p value with two significant digits, none below .0001: .034, .00052, <.0001."""
    if math.isnan(p):
        return MISSING
    if p < 1e-4:
        return "<.0001"
    return rate(p, max(2, 1 - math.floor(math.log10(p))))


def compact(value: object) -> str:
    """A factor level or setting as short as it can be told from others."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return MISSING if math.isnan(value) else f"{value:g}".replace("-", MINUS)
    if value is None:
        return MISSING
    return str(value)


def duration(seconds: float) -> str:
    """Seconds as people say them: 45 s, 12 min, 3.4 h."""
    if math.isnan(seconds):
        return MISSING
    if seconds < 10:
        return f"{seconds:.2g} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
