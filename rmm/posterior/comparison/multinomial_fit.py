"""A fit of an outcome in unordered categories: a conditional logit, by the names of categories."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray

from rmm.arguments import check_seed, readable_methods
from rmm.design.unordered.choice_model import CENTRED, CategoryModel
from rmm.design.unordered.choice_priors import SIGMA, SLOPE_SIGMA, column_name
from rmm.errors import BackendError, counted, quoted, unknown_name
from rmm.model.spec import INTERCEPT
from rmm.posterior.comparison.multinomial_files import read_folder, write_folder
from rmm.posterior.comparison.multinomial_report import Facts, write_multinomial_report
from rmm.posterior.diagnostics.summary import (
    Diagnostics,
    diagnose,
    spread,
    summary_columns,
    weighing,
)
from rmm.posterior.draws import Elements, structural_draws, text_labels
from rmm.posterior.fit import Fit
from rmm.posterior.prediction.new_groups import lay_out
from rmm.posterior.prediction.new_units import check_new_units
from rmm.posterior.reporting.fit_text import formatted
from rmm.posterior.reporting.report import Report
from rmm.posterior.reporting.summary_tables import summary_table
from rmm.tables.read import Array

KINDS = ("probability", "linear")
_IN_CHOICES = re.compile(r"\b(sigma|u)_slope_l1\b")


@readable_methods(BackendError)
@dataclass(frozen=True, repr=False)
class MultinomialFit:
    """A fitted multinomial logit model, as `rmm.multinomial` returns it.

    Attributes
    ----------
    model : CategoryModel
    choices : Fit
        The conditional logit that was fitted: its strata are the groups, its alternatives the
        categories. Its parameters have the names of this fit, but for the intercepts at the
        centres of the predictors (``b_l2[left:alpha]``) and ``sigma_slope_l1`` for ``sigma_l1``.
    """

    model: CategoryModel
    choices: Fit

    @property
    def categories(self) -> tuple[Any, ...]:
        """The categories as the table has them, the reference first."""
        return self.model.categories.values

    @property
    def reference(self) -> Any:
        """The category to which all coefficients compare."""
        return self.categories[0]

    @property
    def converged(self) -> bool:
        """As `rmm.Fit.converged`."""
        return self._diagnostics.converged

    @property
    def program(self) -> str:
        """The program as given to the engine: that of the conditional logit."""
        return self.choices.program

    @property
    def backend(self) -> str:
        """The engine."""
        return self.choices.backend

    def summary(
        self, prob: float = 0.95, columns: str | Sequence[str] | None = None
    ) -> pd.DataFrame:
        """Structural parameters: mean, sd, quantiles, R-hat, ESS and MCSE.

        Coefficients change the log of the odds of their category against the reference;
        ``sigma_l1[k]`` is the standard deviation of the member effects of category k.

        Parameters
        ----------
        prob : float
            Probability of the interval.
        columns : str or sequence of str, optional
            Columns, in their order; default all.

        Returns
        -------
        pandas.DataFrame
            The index is ``parameter``.
        """
        values = self._elements.values
        ordered = np.sort(values.reshape(-1, values.shape[2]).T, axis=1)
        return summary_table(self._table, ordered, prob, columns)

    @property
    def draws(self) -> xarray.Dataset:
        """Draws by parameter, (chain, draw, element), and of member effects, if they were kept.

        The elements have the labels of `summary()`; ``u_l1`` is (chain, draw, member, category).
        """
        labels, values = self._elements.labels, self._elements.values
        found: dict[str, xarray.DataArray] = {}
        for name, own in self.model.priors.labels.items():
            at = [labels.index(f"{name}[{v}]") for v in own if f"{name}[{v}]" in labels]
            if at:
                dim = f"element_{name}"
                kept = [labels[k].split("[", 1)[1][:-1] for k in at]
                coords = {dim: text_labels(np.array(kept, dtype=object))}
                dims = ("chain", "draw", dim)
                found[name] = xarray.DataArray(values[:, :, at], dims=dims, coords=coords)
        known = self.choices.run.draws
        if "u_slope_l1" in known:
            design = self.choices.model.design
            coords = {
                "member": text_labels(design.coords["member"]),
                "category": text_labels(design.coords["slope_l1"]),
            }
            shape = (*values.shape[:2], *(len(v) for v in coords.values()))
            effects = np.reshape(known["u_slope_l1"], shape)
            found["u_l1"] = xarray.DataArray(
                effects, dims=("chain", "draw", *coords), coords=coords
            )
        return xarray.Dataset(found)

    def diagnostics(self) -> dict[str, Any]:
        """What `converged` rests on, by name; see `rmm.Fit.diagnostics`."""
        found = self.choices.diagnostics()
        advice = [self._renamed(text) for text in found["advice"]]
        kept = {name: found[name] for name in ("seconds", "always_together")}
        dropped = self.model.base.dropped
        gone = None if dropped is None else vars(dropped)
        return {**vars(self._diagnostics), **kept, "advice": advice, "dropped": gone}

    def predict(
        self,
        newdata: Any = None,
        kind: str = "probability",
        *,
        effects: str = "all",
        new: Any = False,
        draws: bool = False,
        seed: int | None = None,
    ) -> Any:
        """Probabilities of the categories, for the groups of the fit or for new groups.

        Parameters
        ----------
        newdata : frame, table, mapping or path, optional
            One row per membership; the outcome may be left out.
        kind : {"probability", "linear"}
            ``"linear"``: the log odds against the reference, 0 for the reference itself.
        effects : {"all", "known", "none"}
            Member effects, as for `rmm.Fit.predict`.
        new : bool, id or list of ids
            Members that may be new, as for `rmm.Fit.predict`.
        draws : bool
            Whether to give all draws.
        seed : int, optional
            Of effects of new members; default: the fit's.

        Returns
        -------
        pandas.DataFrame or xarray.DataArray
            One row per group and category (index ``group``, ``category``), the reference first:
            mean, sd, q2.5, median, q97.5. With `draws` an array (chain, draw, group, category).

        Raises
        ------
        DataError
            For columns, levels or units that the fit does not know.
        BackendError
            For an unknown kind or value of `effects`, and if the fit did not keep member effects.
        """
        if kind not in KINDS:
            raise BackendError(unknown_name(kind, "a value of `kind`", KINDS))
        check_seed(seed, BackendError)
        table, labels = None, self.model.base.grouped.groups.labels
        if newdata is not None:
            rows = lay_out(self.model.base, newdata)
            check_new_units(self.model.base, rows, effects, new)
            layout = rows.layout
            table = self.model.rows(layout.grouped, layout.design)
            labels = layout.grouped.groups.labels
        wanted = "mean" if kind == "probability" else kind
        with self._own_names():
            found = self.choices.predict(
                table, wanted, effects=effects, new=True, draws=True, seed=seed
            )
        names = self.model.categories.labels
        values = found.to_numpy().reshape(*found.shape[:2], len(labels), len(names))
        if kind == "linear":
            values = values - values[..., :1]  # the reference's is 0 but for rounding
        if self.model.block is None:  # groups are rows: in the user's order
            order = np.argsort(labels.astype(int), kind="stable")
            labels, values = labels[order], values[:, :, order]
        if draws:
            coords = {
                "chain": found["chain"].to_numpy(),
                "draw": found["draw"].to_numpy(),
                "group": text_labels(labels),
                "category": text_labels(np.array(self.categories, dtype=object)),
            }
            return xarray.DataArray(
                values, dims=("chain", "draw", "group", "category"), coords=coords
            )
        index = pd.MultiIndex.from_product(
            [labels, list(self.categories)], names=["group", "category"]
        )
        return pd.DataFrame(spread(values.reshape(-1, len(index))), index=index)

    def member_effects(self) -> pd.DataFrame:
        """Effects of the members on each category: one row per member and category.

        Returns
        -------
        pandas.DataFrame
            Index ``unit``, column ``category``, then those of `summary`.

        Raises
        ------
        BackendError
            If the model has no member effects, or the fit did not keep them.
        """
        if self.model.block is None or not self.model.block.random:
            raise BackendError(
                "The model has no member effects. Write RE = TRUE in mm() and fit again."
            )
        with self._own_names():
            return self.choices.member_effects().rename(columns={"effect": "category"})

    def weights(self) -> pd.DataFrame:
        """Weights of the members, which are the same for all categories; see `rmm.Fit.weights`.

        Raises
        ------
        BackendError
            If the model has no `mm()`.
        """
        if self.model.block is None:
            raise BackendError("The model has no mm(), so there are no weights.")
        units = self.model.base.grouped.members[0]
        table = self.choices.weights().iloc[: len(units.rows)]  # the rows of the reference
        groups = self.model.base.grouped.groups.labels[units.group]
        table = table.assign(group=groups).set_axis(self.model.base.design.members[0].rows)
        return table.sort_index()

    def log_likelihood(self) -> xarray.DataArray:
        """Pointwise log likelihood (chain, draw, group)."""
        with self._own_names():
            return self.choices.log_likelihood().rename({"stratum": "group"})

    def loo(self, *, refit: bool = False) -> Any:
        """Leave-one-out cross-validation, of groups: see `rmm.Fit.loo`.

        Parameters
        ----------
        refit : bool
            Fit again without each group whose Pareto k is above the threshold.

        Returns
        -------
        arviz_stats.ELPDData
        """
        with self._own_names():
            return self.choices.loo(refit=refit)

    def waic(self) -> Any:
        """The widely applicable information criterion, of groups: see `rmm.Fit.waic`."""
        with self._own_names():
            return self.choices.waic()

    def report(self) -> Report:
        """A paragraph for a paper: data, model, priors, engine, checks and results.

        Returns
        -------
        Report
        """
        base = self.model.base
        return write_multinomial_report(
            Facts(
                categories=self.model.categories.labels,
                counts=np.bincount(self.model.codes),
                block=self.model.block,
                members=base.design.members[0].n_members if self.model.block else 0,
                priors=self.model.choice,
                dropped="" if base.dropped is None else f"{base.dropped}.",
                transform=base.transform,
                backend=self.backend,
                settings=self.choices.settings,
                table=self._table,
                diagnostics=self._diagnostics,
            )
        )

    def save(self, path: str | Path) -> Path:
        """Write the fit into a new folder; `MultinomialFit.load` reads it back.

        Parameters
        ----------
        path : path
            A folder that does not exist, in one that does.

        Returns
        -------
        Path

        Raises
        ------
        DataError
            If the folder exists, or cannot be made.
        """
        return write_folder(self.model, self.choices, Path(path))

    @staticmethod
    def load(path: str | Path) -> MultinomialFit:
        """Read a folder that `save` wrote.

        Parameters
        ----------
        path : path

        Returns
        -------
        MultinomialFit

        Raises
        ------
        DataError
            If it is no such folder, or a file in it cannot be read.
        """
        return MultinomialFit(*read_folder(Path(path)))

    @cached_property
    def _elements(self) -> Elements:
        """Draws of the structural parameters, intercepts where all predictors are 0."""
        found = structural_draws(self.choices.run, self.choices.model)
        columns = dict(zip(found.labels, np.moveaxis(found.values, 2, 0), strict=True))
        spec = self.choices.model.spec
        held = {f"b_l2[{name}]": value for name, value in spec.held}
        held |= {f"{part.b}[{name}]": value for part in spec.members for name, value in part.held}
        moved = {f"b_l2[{column_name(k, INTERCEPT)}]": k for k in self.model.others}
        moved = moved if self.model.centred else {}
        out: dict[str, Array] = {}
        for name, labels in self.model.priors.labels.items():
            for label in labels:
                own = f"{name}[{label}]"
                if name == SIGMA:
                    values = columns[f"{SLOPE_SIGMA}[{label}]"]
                elif own in moved:
                    values = self._at_zero(moved[own], columns, held)
                elif own in held:
                    continue
                else:
                    values = columns[own]
                out[own] = values
        order = sorted(out, key=lambda own: _ORDER.index(own.split("[", 1)[0]))
        return Elements(tuple(order), np.stack([out[own] for own in order], axis=2), {})

    def _at_zero(self, category: str, columns: dict[str, Array], held: dict[str, float]) -> Array:
        """Draws of the intercept of a category, from those at the centres."""
        values = columns[f"b_l2[{column_name(category, CENTRED)}]"]
        for name, centre in self.model.centres.items():
            vector, _, label = name[:-1].partition("[")
            slope = f"{vector}[{column_name(category, label)}]"
            values = values - centre * (held[slope] if slope in held else columns[slope])
        return values

    @cached_property
    def _table(self) -> pd.DataFrame:
        found = self._elements
        columns = summary_columns(found.values, weighing(self.choices.run))
        return pd.DataFrame(columns, index=pd.Index(found.labels, name="parameter"))

    @cached_property
    def _diagnostics(self) -> Diagnostics:
        settings, run = self.choices.settings, self.choices.run
        diverging = int(np.sum(run.sample_stats.get("diverging", np.zeros(1))))
        return diagnose(self._table, settings.chains, settings.draws, diverging, weighing(run))

    def _renamed(self, text: str) -> str:
        return renamed(text, self.model)

    @contextlib.contextmanager
    def _own_names(self) -> Iterator[None]:
        """Errors of the conditional logit by the names of this model's parameters."""
        try:
            yield
        except BackendError as error:
            raise BackendError(self._renamed(str(error))) from None

    def __str__(self) -> str:
        return f"{self.model.formula}\n{self._headline()}\n\n{formatted(self._table).to_string()}"

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        """What notebooks show: the same as text, as a table."""
        html = formatted(self._table).rename_axis(None).to_html(border=0)
        head = escape(self._headline()).replace("\n", "<br>")
        return f"<p><code>{escape(self.model.formula)}</code><br>{head}</p>{html}"

    def _headline(self) -> str:
        base, settings = self.model.base, self.choices.settings
        units = [counted(base.design.J, "group")]
        units += [counted(m.n_members, "member") for m in base.design.members]
        found = self._diagnostics
        kept = f"{counted(settings.chains, 'chain')} x {settings.draws} draws"
        if found.pareto_k is not None:
            kept = f"{settings.chains * settings.draws} draws"
        state = "converged" if found.converged else "NOT CONVERGED"
        others = ", ".join(quoted(v) for v in self.categories[1:])
        chosen = self.choices.run.engine.get("chosen")
        lines = [
            f"multinomial, {self.backend}: {', '.join(units)}; {kept}, {state} ({found.short})",
            f"Categories of `{self.model.outcome}`: {others}, against {quoted(self.reference)}.",
        ]
        return "\n".join([*lines, *([str(chosen)] if chosen else [])])


_ORDER = ("b_l1", "b_l2", "b_w", SIGMA)  # that of other summaries


def renamed(text: str, model: CategoryModel) -> str:
    """A message on the conditional logit by the names of the multinomial model.

    Parameters
    ----------
    text : str
    model : CategoryModel

    Returns
    -------
    str
    """
    text = _IN_CHOICES.sub(r"\1_l1", text)
    if model.intercept != CENTRED:
        return text
    for other in model.others:
        own, shown = column_name(other, CENTRED), column_name(other, INTERCEPT)
        text = text.replace(f"[{own}]", f"[{shown}]").replace(f"`{own}`", f"`{shown}`")
    return text
