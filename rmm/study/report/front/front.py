"""The first screen, put together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rmm._version import __version__
from rmm.errors import counted
from rmm.study.report.data.format_numbers import duration
from rmm.study.report.data.results import Results
from rmm.study.report.figures.chart import Drawn
from rmm.study.report.front.answer import answer, reasons
from rmm.study.report.front.cautions import cautions
from rmm.study.report.front.dot_figure import DotFigure, dot_figure
from rmm.study.report.front.glance import Glance, glance
from rmm.study.report.front.paper_text import paper_text
from rmm.study.report.front.precision import Precision, precision
from rmm.study.report.front.question import CALIBRATION, NULL, PARITY, POWER, RECOVERY, Question

#: Kind of question -> name of the figure that shows it for many scenarios.
_OPENS = {
    NULL: "type1_error",
    POWER: "power_curves",
    RECOVERY: "bias",
    CALIBRATION: "calibration",
    PARITY: "",
}


@dataclass(frozen=True)
class Front:
    """What stands on the first screen.

    Attributes
    ----------
    masthead : str
        The size of the study in a line.
    question : str
        For a study without aims of its own.
    answer : tuple of str
        One or two sentences.
    figure : DotFigure or None
        None where another figure of the report opens it.
    reasons : tuple of (heading, sentence)
    table : Glance
    cautions : tuple of str
    opens : str
        Name of the figure that stands first where there is no `figure`; empty for none.
    paper : str
        A paragraph for a paper.
    precision : Precision or None
        Widths and errors; None where no two methods can be compared.
    """

    masthead: str
    question: str
    answer: tuple[str, ...]
    figure: DotFigure | None
    reasons: tuple[tuple[str, str], ...]
    table: Glance
    cautions: tuple[str, ...]
    opens: str
    paper: str
    precision: Precision | None

    def in_order(self, figures: Sequence[Drawn]) -> list[Drawn]:
        """Figures of the report, those first that show what the study asks."""
        return sorted(figures, key=lambda drawn: drawn.chart.name != self.opens)


def front(results: Results, figures: Path) -> Front:
    """The first screen of a report, the files of its figure in a folder."""
    question = Question(results)
    sentences = tuple(answer(question))
    return Front(
        _masthead(results),
        _question(question),
        sentences,
        dot_figure(question, figures),
        tuple(reasons(question)),
        glance(question),
        tuple(cautions(question)),
        _OPENS[question.kind],
        paper_text(question, sentences),
        precision(question),
    )


def _question(question: Question) -> str:
    """What the report answers, for a study that does not state its aims."""
    what, alpha = question.labels.parameter(question.estimand.parameter), question.estimand.alpha[0]
    test, interval = f"{100 * alpha:g}% test", f"{100 * (1 - alpha):g}% interval"
    held = f", and how often does the {interval} hold it" * bool(
        question.coverages(question.estimand)
    )
    return {
        NULL: f"How often does a {test} find an effect of {what} that is not there?",
        POWER: f"How often does a {test} find the effect of {what}?",
        RECOVERY: f"How far are estimates of {what} from the true value{held}?",
        CALIBRATION: "Do posterior distributions hold the true values as often as they should?",
        PARITY: "Do engines give the same posterior of the same model and data?",
    }[question.kind]


def _masthead(results: Results) -> str:
    fits = results.fits
    counts = fits.groupby(["scenario", "method"])["replication"].nunique()
    up_to, most = "up to " * bool(counts.nunique() > 1), int(counts.max())
    parts = [
        "Simulation study",
        f"{counted(len(results.scenarios), 'scenario')} × {up_to}{counted(most, 'data set')}",
        f"{counted(len(fits), 'fit')}",
    ]
    seconds = float(fits["seconds"].sum())
    if seconds > 0:
        parts[-1] += f", {duration(seconds)} of computing"
    return " · ".join([*parts, f"rmm {__version__}"])
