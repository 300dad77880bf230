"""Properties of tables that nobody has seen: valid data or a message; and what must not matter.

The fast runs are the same ones each time; `make fuzz` makes 10,000 tables and fits 300.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from scipy import stats

import rmm
from rmm.backends import find_backend
from rmm.backends.base import Run
from rmm.design.prepare import Model, prepare
from rmm.formula.prior_syntax import Prior
from rmm.posterior.prediction.predict import log_likelihood
from tests.fuzzing import SEED, at_most
from tests.random_tables import (
    MAY_BE_REFUSED,
    PLAIN,
    TRUE_NUMBERS,
    Dress,
    Recipe,
    Worn,
    changes,
    dresses,
    plain,
    recipes,
    wear,
)

LENGTH = 4000  # characters that a message may have


def few_or_many(few: int, many: int) -> pytest.MarkDecorator:
    """Numbers of examples of the fast run, and of `make fuzz`."""
    long = pytest.param(many, marks=[pytest.mark.fuzz, pytest.mark.timeout(7200)], id="many")
    return pytest.mark.parametrize("examples", [pytest.param(few, id="few"), long])


def run(strategy: st.SearchStrategy[Any], act: Callable[[Any], Any], examples: int) -> None:
    """`act` on so many examples, the same ones each time; a failure is made small."""

    @seed(SEED)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    @given(strategy)
    def each(value: Any) -> None:
        act(value)

    each()


# ---- reading, design, priors, labels -------------------------------------------------------------


def read(case: tuple[Recipe, Dress], how: str, folder: Path) -> tuple[Model, Worn] | str:
    """The model of a dressed table, or the message about it; NumPy's warnings are failures."""
    recipe, dress = case
    worn = wear(dress, plain(recipe), folder)
    with warnings.catch_warnings(), at_most(5.0):
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", RuntimeWarning)
        try:
            model = prepare(recipe.formula, worn.data, recipe.family, missing=how)
        except rmm.RmmError as error:
            return str(error)
        for name in ("jags", "stan", "laplace"):
            try:
                values = find_backend(name).prepare(model).data(model.design)
            except rmm.RmmError as error:
                return str(error)
            for key, array in values.items():
                if key != "model":
                    assert np.isfinite(np.asarray(array, dtype=float)).all(), (name, key)
        label = _given_a_prior(recipe, worn, model, how)
    assert label is None, f"a prior of {label} moved another coefficient"
    return model, worn


def _given_a_prior(recipe: Recipe, worn: Worn, model: Model, how: str) -> str | None:
    """Give each coefficient of the groups a prior by its label; the label that went wrong."""
    labels = [str(v) for v in model.design.coords["covariate_l2"]]
    for label in labels[1:2]:
        stated = {f"b_l2[{label}]": "normal(0.25, 0.125)"}
        again = prepare(recipe.formula, worn.data, recipe.family, priors=stated, missing=how)
        found = [str(prior) for prior in again.priors.elements["beta_l2"]]
        place = labels.index(label) - int(model.spec.intercept)
        if found[place] != "normal(0.25, 0.125)" or found.count(found[place]) != 1:
            return label
    return None


def rows_of_groups(model: Model) -> np.ndarray:
    """Number of the group of each row, rows as `design.rows` has them."""
    start = model.grouped.start
    return np.repeat(np.arange(model.design.J), np.diff(start))


def check_valid(model: Model, worn: Worn, recipe: Recipe) -> None:
    """Units, outcomes and labels are those of the table; nothing was merged, split or mixed up."""
    design, table = model.design, worn.plain
    pairs = {
        "group": (rows_of_groups(model), table["g"].to_numpy()[design.rows]),
        "member": (design.members[0].member, table["m"].to_numpy()[design.members[0].rows]),
    }
    for dim, (codes, truth) in pairs.items():
        found = pd.DataFrame({"code": codes, "truth": truth}).drop_duplicates()
        assert found["code"].is_unique and found["truth"].is_unique, f"{dim}s are merged or split"
        labels = [repr(v) for v in design.coords[dim]]
        assert len(set(labels)) == len(labels) == len(found), f"labels of {dim}s"
    for dim, names in design.coords.items():
        if dim.startswith("covariate"):
            assert len(set(map(str, names))) == len(names), dim
    if recipe.family == "gaussian":
        first = design.rows[model.grouped.start[:-1]]
        ours = worn.frame["y"].astype(float).to_numpy()[first]
        np.testing.assert_allclose(design.outcome["y"], ours, rtol=1e-6)


def is_harmless(recipe: Recipe, dress: Dress) -> bool:
    """Whether a valid table is still one in this dress, which says the same in other words."""
    curved = {"exp(z/10)", "I(z^2)", "offset(z)"} & set(recipe.terms)
    return (
        dress.missing is None
        and all(kind not in MAY_BE_REFUSED for kind in dress.ids.values())
        and all(kind in TRUE_NUMBERS for kind in dress.types.values())
        and dress.region not in ("dates", "numbers", "yes or no")
        and not (curved and dress.units.get("z", 1.0) != 1.0)
    )


def outcome_of(case: tuple[Recipe, Dress, str], folder: Path) -> str:
    """``"data"`` or ``"message"``; anything else is a failure."""
    recipe, dress, how = case
    answer = read((recipe, dress), how, folder)
    if isinstance(answer, str):
        assert answer.strip() and len(answer) <= LENGTH, f"a message of {len(answer)} characters"
        if is_harmless(recipe, dress):
            message = read((recipe, PLAIN), how, folder)
            assert isinstance(message, str), f"a valid table is refused: {answer}"
        return "message"
    if dress.missing is None and all(t in TRUE_NUMBERS for t in dress.types.values()):
        check_valid(*answer, recipe)
    return "data"


@pytest.mark.thorough
@few_or_many(200, 10_000)
def test_a_table_is_valid_data_or_a_message(examples: int, tmp_path: Path) -> None:
    cases = st.tuples(recipes(), dresses(), st.sampled_from(("error", "drop")))
    found: Counter[str] = Counter()
    run(cases, lambda case: found.update([outcome_of(case, tmp_path)]), examples)
    assert found["data"] > examples / 10, found
    assert found["message"] > examples / 10, found


# ---- what must not matter ------------------------------------------------------------------------


@dataclass(frozen=True)
class Units:
    """What a change does to parameters: each is divided by what its covariate is multiplied with.

    `outcome` is the unit of the outcome where the model is linear in it, `log_time` what is added
    to the logarithm of durations.
    """

    dress: Dress
    recipe: Recipe

    def of(self, column: str) -> float:
        """What a column is multiplied with."""
        return float(self.dress.units.get(column, 1.0))

    @property
    def outcome(self) -> float:
        return self.of("y") if self.recipe.family == "gaussian" else 1.0

    @property
    def log_time(self) -> float:
        return float(np.log(self.of("time"))) if self.recipe.family == "weibull" else 0.0

    def changed(self, name: str, label: str, value: Any) -> Any:
        """A parameter of the plain table as it is in the changed one."""
        if name.startswith("b_w"):
            times_s = f"{label}*s" in self.recipe.weight
            return value / (self.of("s") if times_s else 1.0)
        factor, shift = 1.0, 0.0
        if name.startswith("b_l"):
            for column in ("z", "x"):
                if column in label.split(":"):
                    factor *= self.of(column)
            if label == "I(z^2)":
                factor = self.of("z") ** 2
            shift = self.log_time if label == "Intercept" else 0.0
        if name == "shape":
            return value
        return (value * self.outcome) / factor + shift


def parameters(model: Model, count: int, seed_: int) -> dict[str, np.ndarray]:
    """`count` values of every parameter, effects and coefficients moderate, deviations positive."""
    rng, out = np.random.default_rng(seed_), {}
    for parameter in model.spec.parameters:
        shape = tuple(len(model.design.coords[dim]) for dim in parameter.dims)
        values = rng.normal(0, 0.4, (count, *shape))
        positive = parameter.support == "positive"
        out[parameter.name] = np.exp(values) if positive else values
    return out


def log_density(model: Model, values: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Pointwise log likelihood (S, units), and log prior (S,) of what the programs sample."""
    made = Run({name: v[None] for name, v in values.items()}, {}, 0.0, {})
    total = np.zeros(len(next(iter(values.values()))))
    for parameter in model.spec.sampled:
        if not parameter.structural:
            continue
        found = np.atleast_2d(_sampled(model, values, parameter.name).T).T
        for prior, column in zip(_per_element(model, parameter.name, found), found.T, strict=True):
            total += _log_prior(prior, column)
    return np.asarray(log_likelihood(model, made)), total


def _per_element(model: Model, name: str, found: np.ndarray) -> tuple[Prior, ...]:
    priors = model.priors.elements[name]
    return priors if len(priors) == found.shape[1] else priors * found.shape[1]


def _sampled(model: Model, values: dict[str, np.ndarray], name: str) -> np.ndarray:
    """What a program samples, from the parameters of the summary."""
    if name not in ("alpha", "beta_l2"):
        return values[name]
    rest = values["b_l2"][:, int(model.spec.intercept) :]
    if name == "beta_l2":
        return rest
    design, alpha = model.design, values["b_l2"][:, 0].copy()
    alpha += rest @ design.center_l2 if model.spec.terms else 0.0
    for part, member in zip(model.spec.members, design.members, strict=True):
        alpha += values[part.b] @ member.b_center if part.covariates else 0.0
    return alpha


_LAWS: dict[str, Callable[..., Any]] = {
    "normal": lambda location, scale: stats.norm(location, scale),
    "half_normal": lambda scale: stats.halfnorm(scale=scale),
    "student_t": lambda df, location, scale: stats.t(df, location, scale),
    "half_t": lambda df, scale: _HalfT(df, scale),
    "half_cauchy": lambda scale: stats.halfcauchy(scale=scale),
    "exponential": lambda rate: stats.expon(scale=1 / rate),
    "gamma": lambda shape, rate: stats.gamma(shape, scale=1 / rate),
    "uniform": lambda low, high: stats.uniform(low, high - low),
}


@dataclass(frozen=True)
class _HalfT:
    df: float
    scale: float

    def logpdf(self, x: np.ndarray) -> np.ndarray:
        return np.log(2) + stats.t.logpdf(x, self.df, scale=self.scale)


def _log_prior(prior: Prior, values: np.ndarray) -> np.ndarray:
    return np.asarray(_LAWS[prior.family](*prior.values).logpdf(values))


@dataclass(frozen=True)
class Order:
    """Where the units of a plain table are in a model: plain code -> place."""

    group: np.ndarray
    member: np.ndarray
    nesting: np.ndarray

    @classmethod
    def of(cls, model: Model, table: pd.DataFrame) -> Order:
        """Units are found by rows, and by no label."""
        design = model.design
        group = _places(rows_of_groups(model), table["g"].to_numpy()[design.rows])
        member = design.members[0]
        members = _places(member.member, table["m"].to_numpy()[member.rows])
        nesting = np.zeros(0, dtype=int)
        if design.nestings:
            unit = design.nestings[0].unit[rows_of_groups(model)]
            nesting = _places(unit, table["c"].to_numpy()[design.rows])
        return cls(group, members, nesting)

    def move(self, name: str, values: np.ndarray, other: Order) -> np.ndarray:
        """Values by unit of another model, in the order of this one."""
        for prefix, dim in (("u_l1", "member"), ("u_l3", "nesting")):
            if name.startswith(prefix):
                out = np.empty_like(values)
                out[:, getattr(self, dim)] = values[:, getattr(other, dim)]
                return out
        return values


def _places(codes: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Place of each plain unit that occurs, in the order of the plain codes."""
    _, first = np.unique(truth, return_index=True)
    return codes[first]


def quiet(recipe: Recipe, worn: Worn) -> Model | None:
    """The model; None where the table does not fit the formula, which is said elsewhere."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return prepare(recipe.formula, worn.data, recipe.family)
        except rmm.RmmError:
            return None


def labels_of(model: Model, name: str) -> list[str]:
    """Labels of the elements of a coefficient vector."""
    dims = next(p.dims for p in model.spec.parameters if p.name == name)
    return [str(v) for v in model.design.coords[dims[0]]] if dims else [""]


def to_changed(
    units: Units,
    one: Model,
    other: Model,
    orders: tuple[Order, Order],
    values: dict[str, np.ndarray],
) -> tuple[dict[str, np.ndarray], float]:
    """Parameters of `one` as they are in `other`, and the log of the Jacobian of the sampled."""
    out, jacobian = {}, 0.0
    sampled = {p.name for p in one.spec.sampled if p.structural} | {"b_l2"}
    for name, found in values.items():
        moved = orders[1].move(name, found, orders[0])
        if name.startswith("u_l"):
            out[name] = moved * units.outcome
            continue
        labels = labels_of(one, name)
        assert labels == labels_of(other, name)
        columns = np.atleast_2d(found.T).T
        new = np.column_stack(
            [units.changed(name, label, columns[:, k]) for k, label in enumerate(labels)]
        )
        out[name] = new.reshape(found.shape)
        if name in sampled:
            ones = np.array(
                [
                    units.changed(name, label, 1.0) - units.changed(name, label, 0.0)
                    for label in labels
                ]
            )
            jacobian += float(np.log(ones).sum())
    return out, jacobian


def compare_models(recipe: Recipe, change: Dress, folder: Path) -> bool:
    """Arrays and log densities of a changed table, equal to 1e-9 once the change is undone."""
    table = plain(recipe)
    worn = wear(PLAIN, table, folder), wear(change, table, folder)
    one, other = (quiet(recipe, w) for w in worn)
    assert (one is None) == (other is None), "a change decides whether the table is valid"
    if one is None or other is None:
        return False
    units = Units(change, recipe)
    orders = Order.of(one, worn[0].plain), Order.of(other, worn[1].plain)
    _compare_arrays(one, other, orders, units)
    values = parameters(one, 3, recipe.seed % 1000)
    changed, jacobian = to_changed(units, one, other, orders, values)
    likelihood, prior = log_density(one, values)
    likelihood2, prior2 = log_density(other, changed)
    np.testing.assert_allclose(prior2 + jacobian, prior, rtol=1e-9, atol=1e-9)
    if recipe.family == "condlogit":  # its units are strata
        return True
    lost = {"gaussian": np.log(units.outcome), "weibull": units.log_time}.get(recipe.family, 0.0)
    event = one.design.outcome.get("event", np.ones(one.design.J))
    expected = likelihood - lost * np.asarray(event)
    a, b = expected[:, orders[0].group], likelihood2[:, orders[1].group]
    if recipe.family == "cox":  # one number for all groups
        a, b = expected.sum(axis=1), likelihood2.sum(axis=1)
    np.testing.assert_allclose(b, a, rtol=1e-9, atol=1e-9)
    return True


def _compare_arrays(one: Model, other: Model, orders: tuple[Order, Order], units: Units) -> None:
    """Predictors, outcomes, weights and sizes, group by group and membership by membership."""
    labels = labels_of(one, "b_l2")[int(one.spec.intercept) :] if one.spec.terms else []
    factor = [units.outcome / units.changed("b_l2", label, 1.0) for label in labels]
    designs = one.design, other.design
    X = [(d.X_l2 + d.center_l2)[order.group] for d, order in zip(designs, orders, strict=True)]
    scale = np.abs(X[0]).max(axis=0, initial=0) + 1e-300
    np.testing.assert_allclose(X[1] / factor / scale, X[0] / scale, rtol=1e-9, atol=1e-9)
    members = [d.members[0] for d in designs]
    keys = []
    for member, order in zip(members, orders, strict=True):
        places = [np.argsort(order.group), np.argsort(order.member)]
        keys.append(np.lexsort((places[1][member.member], places[0][member.group])))
    for name in ("n", "weight"):
        a, b = (getattr(m, name) for m in members)
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_allclose(b[keys[1]], a[keys[0]], rtol=1e-9)
    for name, values in designs[0].outcome.items():
        if np.shape(values) == (designs[0].J,) and name in ("y", "time", "event", "trials"):
            unit = {"y": units.outcome, "time": units.of("time")}.get(name, 1.0)
            ours = np.asarray(designs[1].outcome[name])[orders[1].group] / unit
            np.testing.assert_allclose(ours, values[orders[0].group], rtol=1e-9)


SAME = recipes(groups=(9, 30), nestings=("", "", "RE"), terms=("z", "region", "z:region", "I(z^2)"))


@pytest.mark.thorough
@few_or_many(120, 2000)
def test_names_orders_and_units_change_no_array_and_no_density(
    examples: int, tmp_path: Path
) -> None:
    compared: Counter[bool] = Counter()
    run(
        st.tuples(SAME, changes()),
        lambda case: compared.update([compare_models(*case, tmp_path)]),
        examples,
    )
    assert compared[True] > examples / 2, compared


# ---- fits ----------------------------------------------------------------------------------------

# A posterior mean of two fits with different seeds differs by a normal number of combined Monte
# Carlo errors. Beyond 5 are 6 in ten million; of the 300 fits here some 2,500 means are compared,
# so that a correct program fails once in 700 runs. Monte Carlo errors are estimates themselves, of
# at least 400 effective draws: their relative error of 4% makes it once in about 400.
FAR = 5.0
FITTED = recipes(
    families=("gaussian", "gaussian", "binomial", "weibull", "cox"),
    groups=(20, 40),
    nestings=("", "", "RE"),
    weights=("w ~ 1/n", "w ~ s/sum(s)", "w ~ exp(b1*s)", "w ~ 1/(1 + (n - 1)*exp(-(b1*s)))"),
    terms=("z", "region"),
)


def fitted(recipe: Recipe, worn: Worn, seed_: int, **options: Any) -> rmm.Fit | None:
    """A fit; None where it did not converge or the table is refused."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            fit = rmm.fit(
                recipe.formula, worn.data, recipe.family, seed=seed_, progress=False, **options
            )
        except rmm.RmmError:
            return None
    return fit if fit.converged else None


def compare_fits(recipe: Recipe, change: Dress, folder: Path, **options: Any) -> bool:
    """Posterior means of a changed table within 5 combined Monte Carlo errors; saved and loaded."""
    table = plain(recipe)
    worn = wear(PLAIN, table, folder), wear(change, table, folder)
    one = fitted(recipe, worn[0], 1, **options)
    other = fitted(recipe, worn[1], 2, **options) if one is not None else None
    if one is None or other is None:
        return False
    other.save(folder / "fit.nc")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = rmm.load(folder / "fit.nc")
    pd.testing.assert_frame_equal(loaded.summary(), other.summary())
    pd.testing.assert_frame_equal(loaded.predict(), other.predict())
    ours, theirs = one.summary(), other.summary()
    assert list(ours.index) == list(theirs.index)
    units = Units(change, recipe)
    for parameter in ours.index:
        name, _, label = parameter.removesuffix("]").partition("[")
        unit = units.changed(name, label, 1.0) - units.changed(name, label, 0.0)
        expected = units.changed(name, label, ours.loc[parameter, "mean"])
        error = np.hypot(
            ours.loc[parameter, "mcse_mean"] * unit, theirs.loc[parameter, "mcse_mean"]
        )
        far = abs(theirs.loc[parameter, "mean"] - expected) / error
        assert far < FAR, f"{parameter}: {far:.1f} Monte Carlo errors apart"
    return True


@pytest.mark.thorough
@few_or_many(20, 300)
def test_names_orders_and_units_change_no_posterior(examples: int, tmp_path: Path) -> None:
    compared: Counter[bool] = Counter()
    run(
        st.tuples(FITTED, changes()),
        lambda case: compared.update([compare_fits(*case, tmp_path, backend="laplace")]),
        examples,
    )
    assert compared[True] > examples / 2, compared


MCMC = recipes(
    families=("gaussian",), groups=(60, 60), nestings=("",), weights=("w ~ 1/n",), terms=("z",)
)


@pytest.mark.jags
@few_or_many(2, 10)
def test_names_orders_and_units_change_no_posterior_of_mcmc(examples: int, tmp_path: Path) -> None:
    """JAGS reads programs in an instant: nothing is compiled."""
    compared: Counter[bool] = Counter()
    options = {"backend": "jags", "warmup": 1000, "draws": 2000}
    run(
        st.tuples(MCMC, changes()),
        lambda case: compared.update([compare_fits(*case, tmp_path, **options)]),
        examples,
    )
    assert compared[True] >= examples / 2, compared
