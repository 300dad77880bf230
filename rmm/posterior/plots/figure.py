"""What all plots share: the sheet they are drawn on, chosen parameters, short labels."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from arviz_stats.base import array_stats
from matplotlib import rc_context
from matplotlib.figure import Figure

from rmm.errors import PlotError
from rmm.posterior.diagnostics.summary import flatten, summarise
from rmm.posterior.plots import check_name
from rmm.posterior.plots.style import SETTINGS

if TYPE_CHECKING:
    from rmm.posterior.fit_tables import FitTables

Array = np.ndarray[Any, Any]
#: Labels are the user's: a dollar sign in one is no mathematics.
_LOOK = {
    **SETTINGS,
    "text.parse_math": False,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
}


class Sheet(Figure):
    """A matplotlib Figure in the package's style.

    It belongs to nobody's list of open figures, so there is nothing to close: save it with
    `savefig`; a notebook shows it by itself.
    """

    def draw(self, renderer: Any) -> None:
        """Draw in the package's style, whatever the settings are by then."""
        with rc_context(_LOOK):
            super().draw(renderer)

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=110)
        return buffer.getvalue()


def in_style[**P](draw: Callable[P, Sheet]) -> Callable[P, Sheet]:
    """Make a drawing function's artists in the package's style."""

    @wraps(draw)
    def styled(*args: P.args, **kwargs: P.kwargs) -> Sheet:
        with rc_context(_LOOK):
            return draw(*args, **kwargs)

    return styled


@dataclass(frozen=True)
class Drawn:
    """One parameter to be shown: its name, draws (chain, draw) and row of the summary."""

    name: str
    draws: Array
    row: Mapping[Any, float]

    @property
    def flat(self) -> Array:
        """All draws, (chain * draw,)."""
        return self.draws.reshape(-1)


def chosen(fit: FitTables, parameters: str | Sequence[str] | None, most: int) -> list[Drawn]:
    """The parameters to be shown; all of the summary by default.

    Parameters
    ----------
    parameters : str or sequence of str
        Elements (``b_l1[fdep]``), whole vectors (``b_l1``, ``u_l1``) or scalars.
    most : int
        More are no figure.

    Raises
    ------
    PlotError
        For names that the draws do not have, and for too many.
    """
    summary = fit.summary()
    wanted = [parameters] if isinstance(parameters, str) else parameters
    wanted = list(dict.fromkeys(summary.index if wanted is None else wanted))
    posterior = fit.draws["posterior"].to_dataset()
    known = {str(name): flatten(posterior[name])[0] for name in posterior.data_vars}
    names: list[str] = []
    for name in wanted:
        if name in known:
            names += known[name]
            continue
        vector = name.partition("[")[0]
        check_name("a parameter of the fit", name, known.get(vector, [*summary.index, *known]))
        names.append(name)
    if not names:
        raise PlotError(
            "`parameters` is empty. Name at least one parameter, such as "
            f"{str(summary.index[0])!r}."
        )
    if len(names) > most:
        raise PlotError(
            f"{len(names)} parameters are too many for one figure. Name at most {most} of them in "
            "`parameters`."
        )
    vectors = list(dict.fromkeys(name.partition("[")[0] for name in names))
    rest = [v for v in vectors if not set(known[v]) <= set(summary.index)]
    table = pd.concat([summary, summarise(posterior, rest)]) if rest else summary
    rows = table[~table.index.duplicated()].T.to_dict()
    found: dict[str, Array] = {}
    for vector in vectors:
        labels, values = flatten(posterior[vector])
        found.update({label: values[:, :, i] for i, label in enumerate(labels)})
    return [Drawn(name, found[name], rows[name]) for name in names]


def density(draws: Array, low: float | None = None, points: int = 256) -> tuple[Array, Array]:
    """Kernel density of draws on a grid; mass does not leak below `low` or beyond the draws.

    The estimate is that of `arviz_stats` (bandwidth "experimental", boundaries reflected).
    """
    draws = draws[np.isfinite(draws)]
    if len(draws) == 0 or np.ptp(draws) == 0:
        at = float(draws[0]) if len(draws) else 0.0
        return np.array([at, at]), np.array([0.0, 1.0])
    if low is None or float(draws.min()) - low > 0.2 * float(np.ptp(draws)):
        grid, values, _ = array_stats.kde(
            draws, grid_len=points, extend=True, bound_correction=False
        )
    else:
        grid, values, _ = array_stats.kde(
            draws, grid_len=points, custom_lims=(low, None), bound_correction=True
        )
    return np.asarray(grid), np.asarray(values)


def short(label: Any, most: int = 28) -> str:
    """A label that fits: its beginning and its end, which tell units apart."""
    text = str(label)
    if len(text) <= most:
        return text
    tail = most // 3
    return f"{text[: most - tail - 1]}…{text[-tail:]}"


def shortened(labels: Sequence[Any], most: int = 28) -> list[str]:
    """Short labels; those that would become equal keep their number."""
    out = [short(label, most) for label in labels]
    return [
        text if out.count(text) == 1 or text == str(label) else f"{short(label, most - 5)} ({i})"
        for i, (text, label) in enumerate(zip(out, labels, strict=True), start=1)
    ]


def number(value: float) -> str:
    """Three significant digits, without exponents where they can be had."""
    if not np.isfinite(value):
        return "?"
    return f"{value:.3g}" if abs(value) < 1000 or abs(value) >= 1e6 else f"{value:.0f}"
