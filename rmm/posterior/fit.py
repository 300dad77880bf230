"""A fitted model: what users hold after `rmm.fit`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rmm.arguments import readable_methods
from rmm.errors import BackendError, PriorError
from rmm.posterior.fit_tables import FitTables
from rmm.posterior.prior_draws import PriorPredictive, draw_prior_predictive

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rmm.posterior.evidence.evidence import Evidence


@readable_methods(BackendError)
@dataclass(frozen=True, repr=False)
class Fit(FitTables):
    """A fitted model.

    Attributes
    ----------
    model : rmm.design.prepare.Model
    run : rmm.backends.base.Run
    program : str
        The program as given to the engine.
    program_data : mapping
        The data as given to the engine.
    backend : str
    settings : rmm.backends.base.Settings
    own_program : bool
        Whether the program is other than the one that is written for this model: the user's own.
    """

    def plot(self, kind: str = "draws", **options: Any) -> Figure:
        """A figure of the parameters.

        Parameters
        ----------
        kind : str
            ``"draws"``: density and trace; ``"forest"``: estimates with intervals by level;
            ``"effects"``: members or nesting units, sorted; ``"prior"``: prior and posterior;
            ``"sensitivity"``: sensitivity to the priors and to the likelihood.
        **options
            Those of the `draw` of the plot's module in `rmm.posterior.plots`, such as
            ``parameters=["b_l1", "sigma_l1"]`` or ``top=20``.

        Returns
        -------
        matplotlib.figure.Figure
            Save it with `savefig`; a notebook shows it.
        """
        # Late: a fit by itself does not need it.
        from rmm.posterior.plots import plot

        return plot(self, "plot", kind, options)

    def plot_weights(self, kind: str = "variable", **options: Any) -> Figure:
        """A figure of the weights: over a ``"variable"``, or of the members of some ``"groups"``.

        Parameters
        ----------
        kind : {"variable", "groups"}
        **options
            Those of `weight_function` and `group_weights`: ``block=1``, ``variable=``,
            ``groups=[...]``.

        Returns
        -------
        matplotlib.figure.Figure
        """
        # Late: a fit by itself does not need it.
        from rmm.posterior.plots import plot

        return plot(self, "plot_weights", kind, options)

    def prior_predictive(self, draws: int = 1000, seed: int | None = None) -> PriorPredictive:
        """What the fit's priors alone say of the outcome of its groups.

        Parameters
        ----------
        draws : int
            Number of draws from the priors.
        seed : int, optional
            Default: the fit's.

        Returns
        -------
        PriorPredictive
            See `rmm.prior_predictive`.

        Raises
        ------
        PriorError
            If the fit is of a program of your own, whose priors are not known.
        """
        if self.own_program:
            raise PriorError(
                "This fit was run with your own program, whose priors are not known. Use "
                "rmm.prior_predictive(), which draws from the priors of a formula."
            )
        return draw_prior_predictive(
            self.model, draws, self.settings.seed if seed is None else seed
        )

    def plot_check(self, kind: str = "predictive", **options: Any) -> Figure:
        """A posterior predictive check: outcomes drawn from the model beside those observed.

        Densities for numbers, shares by predicted probability for 0/1, counts and choices, a
        Kaplan-Meier curve in a band for durations. Or, with ``"prior_predictive"``, what the
        priors alone say.

        Parameters
        ----------
        kind : {"predictive", "prior_predictive"}
        **options
            Those of `rmm.posterior.plots.predictive_check`: ``replications=50``, ``seed=``; of
            `rmm.posterior.plots.prior_predictive`: ``draws=1000``, ``seed=``.

        Returns
        -------
        matplotlib.figure.Figure
        """
        # Late: a fit by itself does not need it.
        from rmm.posterior.plots import plot

        return plot(self, "plot_check", kind, options)

    def log_evidence(self, seed: int | None = None) -> Evidence:
        """The log of the evidence p(y), the marginal likelihood, with its Monte Carlo error.

        All normalising constants are in. See `rmm.posterior.evidence.evidence`; compare fits with
        `rmm.bayes_factor`.

        Parameters
        ----------
        seed : int, optional
            Default: the fit's.

        Returns
        -------
        Evidence
            ``value``, ``mcse``, ``method``, ``pareto_k``; ``float()`` of it is the value.

        Raises
        ------
        PriorError
            If the fit is of a program of your own, whose priors are not known.
        BackendError
            If it cannot be trusted (Pareto's k of the weights), or the fast engine does not
            cover the model, so that effects cannot be integrated out.

        Warns
        -----
        SpecificationWarning
            Names priors that are defaults scaled by the data.
        """
        # Late: a fit by itself does not need it.
        from rmm.posterior.evidence.evidence import log_evidence

        return log_evidence(self, self._seed(seed))

    def save(self, path: str | Path) -> Path:
        """Write everything into one NetCDF file; `rmm.load` reads it back.

        Parameters
        ----------
        path : path
            The file, in a folder that exists; it appears whole or not at all.

        Returns
        -------
        Path

        Raises
        ------
        DataError
            If there is no such folder.
        """
        # Late: a fit by itself does not need it.
        from rmm.posterior.saved_fits.save import save

        return save(self, Path(path))
