"""A fitted model: tables, draws, weights, effects and what a careful reader must know."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pandas as pd

from rmm.arguments import readable_methods
from rmm.backends.base import Run, Settings
from rmm.design.prepare import Model
from rmm.errors import BackendError, ConvergenceWarning, SpecificationWarning, counted
from rmm.model.spec import MemberPart
from rmm.posterior.diagnostics.advice import Evidence, advise, flat_weights
from rmm.posterior.diagnostics.contraction import by_quartiles
from rmm.posterior.diagnostics.summary import (
    Diagnostics,
    Weighing,
    diagnose,
    spread,
    summarise,
)
from rmm.posterior.posterior_methods import AfterFit
from rmm.posterior.prediction.linear_predictor import flat_draws, weight_chunks
from rmm.posterior.reporting.fit_text import formatted, headline, remarks, unconverged
from rmm.posterior.reporting.report import Report, Subject, write_report
from rmm.posterior.reporting.summary_tables import summary_table, written

if TYPE_CHECKING:
    pass


@readable_methods(BackendError)
@dataclass(frozen=True)
class FitTables(AfterFit):
    """A fitted model: its parts, and its tables.

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

    model: Model
    run: Run
    program: str
    program_data: Mapping[str, Any] = field(repr=False)
    backend: str
    settings: Settings = field(repr=False)
    own_program: bool = field(default=False, repr=False)

    @cached_property
    def _everything(self) -> pd.DataFrame:
        found = self._estimates
        index = pd.Index(found.elements.labels, name="parameter")
        return pd.DataFrame(dict(found.columns), index=index)

    @property
    def _weighing(self) -> Weighing | None:
        return self._estimates.weighing

    @cached_property
    def _table(self) -> pd.DataFrame:
        """What is shown: fixed effects of nesting units only with `showFE`."""
        return self._everything[self._estimates.shown]

    @cached_property
    def _diagnostics(self) -> Diagnostics:
        diverging = self.run.sample_stats.get("diverging", np.zeros(1))
        return diagnose(
            self._everything,
            self.settings.chains,
            self.settings.draws,
            int(np.sum(diverging)),
            self._weighing,
        )

    @overload
    def summary(
        self, prob: float = 0.95, columns: str | Sequence[str] | None = None, to: None = None
    ) -> pd.DataFrame: ...

    @overload
    def summary(
        self, prob: float = 0.95, columns: str | Sequence[str] | None = None, *, to: str
    ) -> str: ...

    def summary(
        self,
        prob: float = 0.95,
        columns: str | Sequence[str] | None = None,
        to: str | None = None,
    ) -> pd.DataFrame | str:
        """Structural parameters: mean, sd, quantiles, R-hat, ESS, MCSE and contraction.

        See `summarise`, and `contraction`: ``contraction`` is
        1 - var(posterior) / var(prior), 0 where the posterior is as wide as the prior. Where the
        prior has no variance it is 1 - (ratio of the interquartile ranges)^2;
        ``diagnostics()["contraction_of_quartiles"]`` names these parameters. NaN for fits of a
        program of your own, whose priors are not known.

        Where draws have been weighted (backend ``"laplace"``) R-hat is missing, and effective
        sizes are those of the weights.

        Coefficients are on the scale of the linear predictor, of covariates as given (or after
        `transform=`); sigmas are standard deviations.

        Parameters
        ----------
        prob : float
            Probability of the interval: 0.9 gives the columns ``q5`` and ``q95``.
        columns : str or sequence of str, optional
            Columns, in their order; default all.
        to : {"latex", "markdown"}, optional
            Give text instead of a data frame: a ``tabular`` for the LaTeX package booktabs, or a
            pipe table. Numbers have three decimals, or three digits where these would say nothing.

        Returns
        -------
        pandas.DataFrame or str

        Raises
        ------
        BackendError
            For an unknown column or format, or a probability that is not between 0 and 1.

        Examples
        --------
        >>> import rmm
        >>> data = {"y": [1.0, 2.0, 3.0, 4.0, 6.0], "x": [0.0, 1.0, 2.0, 3.0, 4.0]}
        >>> fit = rmm.fit("y ~ 1 + x", data, backend="laplace", seed=1)
        >>> list(fit.summary().index)
        ['b_l2[Intercept]', 'b_l2[x]', 'sigma_l2']
        >>> 1.0 < fit.summary().loc["b_l2[x]", "mean"] < 1.4
        np.True_
        >>> print(fit.summary(0.9, ["mean", "q5", "q95"], to="markdown").splitlines()[0])
        | parameter         |  mean |     q5 |   q95 |
        """
        rows = self._estimates.ordered[self._estimates.shown]
        table = summary_table(self._table, rows, prob, columns)
        return table if to is None else written(table, to, self._table["sd"])

    def report(self) -> Report:
        """A paragraph for a paper: data, model, priors, engine, checks and results.

        It is a draft to edit: names of columns stand for what they measure. Printed it is text;
        `numbers` names the table from which each number comes.

        Returns
        -------
        Report

        Examples
        --------
        >>> import rmm
        >>> data = {"y": [1.0, 2.0, 3.0, 4.0, 6.0], "x": [0.0, 1.0, 2.0, 3.0, 4.0]}
        >>> fit = rmm.fit("y ~ 1 + x", data, backend="laplace", seed=1)
        >>> "If x is one unit higher, the outcome changes by" in fit.report().text
        True
        """
        return write_report(
            Subject(
                self.model,
                self.backend,
                self.settings,
                self._table,
                self._diagnostics,
                self._weighing,
                self.own_program,
            )
        )

    def diagnostics(self) -> dict[str, Any]:
        """What `converged` rests on, by name; see `rmm.posterior.diagnostics.summary.Diagnostics`.

        ``always_together`` lists, per `mm()` block with member effects, the sets of members that
        are in exactly the same groups: their effects are identified only in sum. ``advice`` lists
        what to try, most important first; see `advice`. ``dropped`` says which groups were
        left out for missing values; None where none was. ``contraction_of_quartiles`` lists the
        parameters whose contraction is one of interquartile ranges.
        """
        dropped = self.model.dropped
        return {
            **vars(self._diagnostics),
            "seconds": self.run.seconds,
            "always_together": self._evidence.together,
            "advice": list(self._advice.values()),
            "contraction_of_quartiles": by_quartiles(self._contraction),
            "dropped": None if dropped is None else vars(dropped),
        }

    @property
    def converged(self) -> bool:
        """R-hat <= 1.01, bulk and tail ESS >= 100 per chain, no divergences.

        Of backend ``"laplace"``: Pareto k, 400 effective draws and even inner weights, whatever
        `chains` is; see `rmm.posterior.diagnostics.summary.Diagnostics`.
        """
        return self._diagnostics.converged

    def weights(self, block: int = 1) -> pd.DataFrame:
        """Weights of one `mm()` block.

        Parameters
        ----------
        block : int
            Number of the `mm()` block, from 1.

        Returns
        -------
        pandas.DataFrame
            One row per membership of the block, in the order of the user's rows and indexed by
            their numbers (0-based): member, group, mean, sd and quantiles of w (sd 0 where the
            weights are known).

        Raises
        ------
        BackendError
            If the model has no such block.
        """
        part, draws = self._part(block), flat_draws(self.run, self.model)
        grouped = self.model.grouped
        units = grouped.members[block - 1]
        blocks = [spread(w) for w in weight_chunks(self.model, part, block - 1, draws)]
        table = pd.DataFrame(
            {
                "member": units.labels[units.code],
                "group": grouped.groups.labels[units.group],
                **{k: np.concatenate([b[k] for b in blocks]) for k in blocks[0]},
            },
            index=self.model.design.members[block - 1].rows,
        )
        return table.sort_index()

    def member_effects(self, block: int = 1) -> pd.DataFrame:
        """Random effects of the members: one row per member, with convergence columns.

        With random walks (`ar = time`) one row per membership, indexed by the user's row number
        (0-based) and sorted by member and time, with columns member, group and order (1, 2, ...
        within a member) first. With `ar = ar1(time)` one row per member and time, indexed by both,
        with columns member and time (order without a time column) first.
        With random slopes one row per member and effect, which the first column names:
        ``Intercept``, or the covariate. Blocks with the same name in `cor =` have the same members,
        those of all of them: a member without one of these roles has a correlated effect there.

        Parameters
        ----------
        block : int
            Number of the `mm()` block, from 1.

        Returns
        -------
        pandas.DataFrame
            Index ``unit``, columns as in `summary`, on the scale of the linear predictor.

        Raises
        ------
        BackendError
            If the model has no such block or effects, or the fit did not keep them.
        """
        part = self._part(block)
        member = self.model.design.members[block - 1]
        walk, series = member.walk, member.series
        if part.slopes:
            return self._slopes(part)
        table = self._effects(part.u)
        if series is not None:
            labels = self.model.grouped.members[block - 1].labels
            table.insert(0, "member", labels[series.member])
            table.insert(1, "time" if part.block.time_column else "order", series.time)
            return table
        if walk is None:
            return table
        units = self.model.grouped.members[block - 1]
        return pd.DataFrame(
            {
                "member": units.labels[units.code],
                "group": self.model.grouped.groups.labels[units.group],
                "order": walk.order,
                **{name: table[name].to_numpy() for name in table},
            },
            index=pd.Index(self.model.design.members[block - 1].rows, name="row"),
        ).iloc[np.argsort(walk.place)]

    def _slopes(self, part: MemberPart) -> pd.DataFrame:
        """Members' intercepts, if they have any, and slopes, one below the other."""
        labels = [str(v) for v in self.model.design.coords[f"member{part.suffix}"]]
        names = [str(v) for v in self.model.design.coords[f"slope_l1{part.suffix}"]]
        tables = [self._effects(part.u)] if part.random else []
        tables.append(self._effects(part.u_slope))
        members = labels * part.random + [label for label in labels for _ in names]
        effects = ["Intercept"] * (len(labels) * part.random) + names * len(labels)
        table = pd.concat(tables).set_axis(members).rename_axis("unit")
        table.insert(0, "effect", effects)
        return table

    def imputed_values(self) -> pd.DataFrame:
        """Missing values of covariates, with `missing="impute"`: one row per value.

        Returns
        -------
        pandas.DataFrame
            Columns column (the covariate) and unit (the id of its group or member; of a membership
            both) first, then as in `summary`, in the unit of the covariate. Empty without missing
            values.

        Raises
        ------
        BackendError
            If the fit did not keep them (monitor="structural").
        """
        tables = []
        for one in self.model.spec.imputed:
            table = self._effects(one.x)
            tables.append(
                table.reset_index(names="unit").assign(column=one.column).set_index("column")
            )
        if not tables:
            return pd.DataFrame(columns=["column", "unit"])
        return pd.concat(tables).reset_index()

    def nesting_effects(self, block: int = 1) -> pd.DataFrame:
        """Random effects of the nesting units of one `hm()` block: one row per unit.

        Parameters
        ----------
        block : int
            Number of the `hm()` block, from 1.

        Returns
        -------
        pandas.DataFrame
            Index ``unit``, columns as in `summary`, on the scale of the linear predictor.

        Raises
        ------
        BackendError
            If there is no such block, its effects are fixed, or the fit did not keep them.
        """
        parts = self.model.spec.nestings
        if not 1 <= block <= len(parts):
            raise BackendError(
                f"The model has {counted(len(parts), 'hm() block')}, but `block` is {block}."
            )
        if not parts[block - 1].random:
            raise BackendError(
                "This hm() block has fixed effects. Write showFE=TRUE to see them in the summary."
            )
        return self._effects(parts[block - 1].u)

    def _effects(self, name: str) -> pd.DataFrame:
        posterior = self.draws["posterior"].to_dataset()
        if name not in posterior:
            if name not in {p.name for p in self.model.spec.parameters}:
                raise BackendError(f"The model has no random effects `{name}`.")
            raise BackendError(
                f"The fit kept no draws of the random effects `{name}`, because it was run with "
                'monitor="structural". Fit again with monitor="summary" (the default).'
            )
        table = summarise(posterior, [name], self._weighing)
        return table.set_axis([label.split("[", 1)[1][:-1] for label in table.index]).rename_axis(
            "unit"
        )

    def _part(self, block: int) -> MemberPart:
        parts = self.model.spec.blocks
        if not 1 <= block <= len(parts):
            raise BackendError(
                f"The model has {counted(len(parts), 'mm() block')}, but `block` is {block}."
            )
        return parts[block - 1]

    @cached_property
    def _evidence(self) -> Evidence:
        weighed = self._weighing
        return Evidence(
            self.model,
            self.backend,
            self.settings,
            self._everything,
            self._diagnostics,
            0 if weighed is None else weighed.points,
        )

    @cached_property
    def _advice(self) -> dict[str, str]:
        return advise(self._evidence)

    def warn(self) -> None:
        """Say what a careful reader must know: convergence, weights without a usable posterior."""
        d = self._diagnostics
        if d.converged:  # the one rule that speaks then; all of them take milliseconds
            flat = flat_weights(self._evidence)
        else:
            advice = dict(self._advice)
            flat = advice.pop("flat_weights", None)
            why = unconverged(d, self._weighing, advice)
            warnings.warn(f"The fit has not converged: {why}", ConvergenceWarning, stacklevel=4)
        if flat is not None:
            warnings.warn(flat, SpecificationWarning, stacklevel=4)

    def __str__(self) -> str:
        table = formatted(self._table).to_string()
        remarks = self._remarks()
        end = f"\n\n{remarks}" if remarks else ""
        return f"{self.model.as_written}\n{self._headline()}\n\n{table}{end}"

    def _repr_html_(self) -> str:
        """What notebooks show: the same as text, with a compact table."""
        html = formatted(self._table).rename_axis(None).to_html(border=0)
        said = escape(self._headline()).replace("\n", "<br>")
        lines = f"<code>{escape(self.model.as_written)}</code><br>{said}"
        remarks = escape(self._remarks())
        return f"<p>{lines}</p>{html}" + (f"<p>{remarks}</p>" if remarks else "")

    def _headline(self) -> str:
        return headline(self.model, self.backend, self.settings, self._diagnostics, self.run.engine)

    def _remarks(self) -> str:
        return remarks(self.model, self._evidence.together, self._table, self._contraction)

    def __repr__(self) -> str:
        return str(self)
