"""Effects that are not sampled: programs against densities and moments written with SciPy."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import expit

import rmm
from rmm.backends import find_backend
from rmm.backends.base import Run, Settings
from rmm.backends.initial_values import initial_values
from rmm.backends.program_data import raw_name
from rmm.backends.stan.compile import check_syntax
from rmm.backends.stan.marginalize.choose import (
    LIMITS,
    Marginalization,
    choose_marginalization,
    marginalized,
)
from rmm.backends.stan.marginalize.components import components
from rmm.backends.stan.marginalize.spectrum import spectrum
from rmm.backends.stan.program import program as stan
from rmm.backends.stan.program.priors import prior_values
from rmm.backends.stan.run import available, run
from rmm.design.prepare import Model
from rmm.families.cox import log_marginal
from rmm.formula.weights.evaluate import normalise
from tests.family_cases import check_names, half_normal_by_raw, quiet

needs_stan = pytest.mark.skipif(not available().available, reason=f"Stan: {available().what}")

NESTED = "z + mm(id(pid, gid), vars(x), fn(w ~ 1/n), RE=TRUE) + hm(id=cid)"
CROSSED = "z + mm(id(pid, gid), vars(x), fn(w ~ 1/n), RE=TRUE) + hm(id=era)"
ESTIMATED = (
    "z + mm(id(pid, gid), vars(x), fn(w ~ 1/(1 + (n - 1)*exp(-(b1*s))), c={}), RE=TRUE)"
    " + hm(id=cid)"
)
# Every fifth group has no member of the kind whose effects are integrated out.
ALONE = (
    "z + mm(id(aid, gid), fn(w ~ 1/(1 + (n - 1)*exp(-(b1*s)))), RE=TRUE)"
    " + mm(id(mid, gid), vars(x), RE=FALSE, name=b)"
)
TWO = "z + mm(id(pid, gid), vars(x), RE=TRUE, name=a) + mm(id(mid, gid), RE=TRUE, name=b)"
# Members of one group alone: some, some in two blocks, all.
OWN = ESTIMATED.replace("pid", "oid").format("TRUE")
OWN_TWO = "z + mm(id(oid, gid), vars(x), RE=TRUE, name=a) + mm(id(sid, gid), RE=TRUE, name=b)"
OWN_ALL = ESTIMATED.replace("pid", "sid").format("FALSE").replace(" + hm(id=cid)", "")

Parts = dict[str, tuple[Any, float]]


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """40 groups in 6 countries; parties stay in their country, ministers do not."""
    rng = np.random.default_rng(31)
    rows = []
    for g in range(40):
        country = g % 6
        parties = rng.choice(5, size=rng.integers(1, 4), replace=False)
        y, z, hit = rng.normal(), rng.normal(), int(rng.random() < 0.4)
        for p in sorted(parties):
            rows.append(
                {
                    "gid": g,
                    "cid": country,
                    "pid": f"{country}.{p}",
                    "era": (g * 7) % 4,
                    "aid": f"{country}.{p}" if g % 5 else None,
                    "oid": f"{country}.{p}" if p < 2 else f"group {g}, {p}",
                    "sid": f"{g}.{p}",
                    "mid": int(rng.integers(3)) * 5 + int(p),
                    "y": y,
                    "hit": hit,
                    "z": z,
                    "t": float(np.exp(y)),
                    "k": int(g % 5),
                    "m": 5 - int(g % 5) + 1,
                    "x": rng.normal(),
                    "s": rng.normal(),
                }
            )
    return pd.DataFrame(rows)


def forced(
    formula: str, table: pd.DataFrame, family: str, strategy: str = "spectrum"
) -> tuple[Model, Marginalization]:
    """A model, and its effects integrated out by a strategy, whether it pays or not."""
    wanted = "components" if strategy == "components" else "directions"
    limits = {k: np.inf if k == wanted else 0.0 for k in LIMITS}
    model = quiet(formula, table, family)
    chosen = choose_marginalization(model.spec, model.design, limits)
    assert chosen is not None
    return model, chosen


def chosen_for(formula: str, table: pd.DataFrame, family: str) -> Marginalization | None:
    """What Stan integrates out by default."""
    model = quiet(formula, table, family)
    return choose_marginalization(model.spec, model.design)


def weights(model: Model, index: int, draw: dict[str, Any]) -> Any:
    """(J, N) weights of a block at a draw, from its formula."""
    part, m = model.spec.members[index], model.design.members[index]
    w = m.weight
    if w is None:
        s = model.grouped.frame["s"].to_numpy()[m.rows]
        raw = 1 / (1 + (m.n - 1) * np.exp(-draw[part.b_w][0] * s))
        w = normalise(raw, part.weight.constraint, m.start)
    out = np.zeros((model.design.J, m.n_members))
    out[m.group, m.member] = w
    return out


def fixed_part(model: Model, draw: dict[str, Any]) -> Any:
    eta = draw.get("alpha", 0.0) + model.design.X_l2 @ draw.get("beta_l2", np.empty(0))
    for i, (part, m) in enumerate(zip(model.spec.members, model.design.members, strict=True)):
        if not part.covariates:
            continue
        W = weights(model, i, draw)
        X = m.X if m.weight is not None else None
        if X is None:
            rows = np.bincount(m.group, W[m.group, m.member] * (m.X @ draw[part.b]), model.design.J)
            eta = eta + rows
        else:
            eta = eta + X @ draw[part.b]
    return eta


def dummies(codes: Any, count: int) -> Any:
    return (codes[:, None] == np.arange(count)).astype(float)


def random_parts(model: Model, draw: dict[str, Any]) -> Parts:
    """Effect -> (its matrix (J, units), its sd)."""
    found = {
        p.u: (weights(model, i, draw), draw[p.sigma])
        for i, p in enumerate(model.spec.members)
        if p.random
    }
    nests = zip(model.spec.nestings, model.design.nestings, strict=True)
    found |= {k.u: (dummies(n.unit, n.n_units), draw[k.sigma]) for k, n in nests}
    return found


def gone_and_left(
    model: Model, chosen: Marginalization, draw: dict[str, Any]
) -> tuple[Parts, Parts]:
    """Effects that are integrated out, and those that are sampled."""
    gone, parts = marginalized(model.spec, chosen), random_parts(model, draw)
    left = {k: v for k, v in parts.items() if k not in gone}
    return {k: v for k, v in parts.items() if k in gone}, left


def sampled(
    model: Model, chosen: Marginalization, draws: int = 25
) -> tuple[list[dict[str, Any]], Any, Any]:
    """Draws of everything that the program has, and `lp__`."""
    spec, forms = model.spec, model.priors.forms
    values = stan.data(spec, model.design, prior_values(model), chosen)
    starts = [
        stan.initial(spec, forms, prior_values(model), v) for v in initial_values(model, 1, 3)
    ]
    settings = Settings(chains=1, warmup=150, draws=draws, seed=3, cores=1)
    fitted = run(stan.write(spec, forms, chosen), values, starts, settings)
    rows = [{k: v[0, i] for k, v in fitted.draws.items()} for i in range(draws)]
    return rows, fitted.sample_stats["lp"][0], fitted


def log_prior(model: Model, draw: dict[str, Any]) -> float:
    hyper = model.priors.data
    total = 0.0
    for p in model.spec.sampled:
        name = p.name
        if p.role == "sd":
            total += half_normal_by_raw(model, draw, name)
        elif p.role == "shape":  # sampled by its logarithm
            a, rate = hyper[f"prior_{name}_shape"], hyper[f"prior_{name}_rate"]
            total += stats.gamma.logpdf(draw[name], a, scale=1 / rate) + np.log(draw[name])
        elif p.structural:
            location, scale = hyper[f"prior_{name}_location"], hyper[f"prior_{name}_scale"]
            total += np.sum(stats.norm.logpdf(draw[name], location, scale))
    return float(total)


def cases(known: dict[str, Any], *slow: str) -> list[Any]:
    """Names of cases; those of `slow` are left to the slow tests."""
    return [pytest.param(k, marks=pytest.mark.slow) if k in slow else k for k in known]


GAUSSIAN = {
    "nested": ("y ~ " + NESTED, "spectrum", ("u_l1", "u_l3")),
    "crossed": ("y ~ " + CROSSED, "components", ("u_l1", "u_l3")),
    "group weights": ("y ~ " + ESTIMATED.format("TRUE"), "components", ("u_l1", "u_l3")),
    "total weights": ("y ~ " + ESTIMATED.format(2), "components", ("u_l1", "u_l3")),
    "free weights": ("y ~ " + ESTIMATED.format("FALSE"), "components", ("u_l1", "u_l3")),
    "two blocks": ("y ~ " + TWO, "components", ("u_l1_a", "u_l1_b")),
    "one of two blocks": ("y ~ " + TWO, "spectrum", ("u_l1_a",)),
    "one of two levels": ("y ~ " + CROSSED, "spectrum", ("u_l1",)),
    "groups alone": ("y ~ " + ALONE, "components", ("u_l1_1",)),
    "own members": ("y ~ " + OWN, "components", ("u_l1", "u_l3")),
    "own members of two blocks": ("y ~ " + OWN_TWO, "components", ("u_l1_a", "u_l1_b")),
    "no others": ("y ~ " + OWN_ALL, "components", ("u_l1",)),
}
SOME_GAUSSIAN = cases(GAUSSIAN, "total weights", "free weights", "one of two blocks")


@pytest.mark.thorough
@needs_stan
@pytest.mark.stan
@pytest.mark.parametrize("name", SOME_GAUSSIAN)
def test_marginal_density(name: str, table: pd.DataFrame) -> None:
    """`lp__` is prior x normal density with the effects in its covariance."""
    formula, strategy, gone = GAUSSIAN[name]
    model, chosen = forced(formula, table, "gaussian", strategy)
    assert chosen.strategy == strategy
    draws, lp, _ = sampled(model, chosen)
    ours = []
    for draw in draws:
        V = draw["sigma_l2"] ** 2 * np.eye(model.design.J)
        out, left = gone_and_left(model, chosen, draw)
        for Z, sd in out.values():
            V += sd**2 * Z @ Z.T
        y, eta = model.design.outcome["y"], fixed_part(model, draw)
        eta = eta + sum(Z @ draw[n] for n, (Z, _) in left.items())
        # On the scale of z = u / sd, on which these are sampled.
        prior = sum(stats.norm.logpdf(draw[n] / sd).sum() for n, (_, sd) in left.items())
        prior += log_prior(model, draw)
        ours.append(prior + stats.multivariate_normal.logpdf(y, eta, V))
    assert np.ptp(ours) > 2, "the draws differ"
    np.testing.assert_allclose(lp - lp[0], np.array(ours) - ours[0], atol=1e-6)
    assert marginalized(model.spec, chosen) == set(gone)


@pytest.mark.thorough
@needs_stan
@pytest.mark.stan
@pytest.mark.parametrize("name", SOME_GAUSSIAN)
def test_effects_are_drawn_given_the_rest(name: str, table: pd.DataFrame) -> None:
    """Effects, less their conditional means and over the Cholesky factor of their conditional
    covariance, are standard normals: sums of squares within 4 sds, means within 4 (7e-5 each).
    """
    formula, strategy, _ = GAUSSIAN[name]
    model, chosen = forced(formula, table, "gaussian", strategy)
    draws, _, _ = sampled(model, chosen, draws=400)
    squares, z = 0.0, []
    for draw in draws:
        parts, left = gone_and_left(model, chosen, draw)
        Z = np.hstack([m * sd for m, sd in parts.values()]) / draw["sigma_l2"]
        u = np.concatenate([draw[n] / sd for n, (_, sd) in parts.items()])
        eta = fixed_part(model, draw) + sum(m @ draw[n] for n, (m, _) in left.items())
        r = (model.design.outcome["y"] - eta) / draw["sigma_l2"]
        P = np.eye(Z.shape[1]) + Z.T @ Z
        white = np.linalg.cholesky(P).T @ (u - np.linalg.solve(P, Z.T @ r))
        squares += white @ white
        z.append(white)
    found = np.array(z)
    count = found.size
    assert abs(squares - count) < 4 * np.sqrt(2 * count)
    assert abs(found.mean()) < 4 / np.sqrt(count)
    assert np.abs(np.corrcoef(found.T) - np.eye(found.shape[1])).max() < 5 / np.sqrt(len(found))


SURVIVAL = "Surv(t, hit) ~ "
APPROXIMATED = {
    "nested": ("hit ~ " + NESTED, "binomial", (0,)),
    "crossed": ("hit ~ " + CROSSED, "binomial", ()),
    "counts": ("cbind(k, m) ~ " + NESTED, "binomial", (0,)),
    "group weights": ("hit ~ " + ESTIMATED.format("TRUE"), "binomial", (0,)),
    "total weights": ("hit ~ " + ESTIMATED.format(2), "binomial", (0,)),
    "two blocks": ("hit ~ " + TWO, "binomial", ()),
    "durations": (SURVIVAL + NESTED, "weibull", (0,)),
    "durations, free weights": (SURVIVAL + ESTIMATED.format("FALSE"), "weibull", (0,)),
    "no predictors": (SURVIVAL + "mm(id(pid, gid), RE=TRUE)", "cox", ()),
    "hazards": (SURVIVAL + ESTIMATED.format("TRUE"), "cox", (0,)),
}


def log_likelihood(model: Model, draw: dict[str, Any], eta: Any) -> float:
    """Of the outcome, by SciPy; up to a constant."""
    known, family = model.design.outcome, model.spec.family.name
    if family == "binomial":
        trials = known.get("trials", np.ones(model.design.J))
        return float(stats.binom.logpmf(known["y"], trials, expit(eta)).sum())
    if family == "weibull":
        law = stats.weibull_min(draw["shape"], scale=np.exp(eta))
        each = np.where(known["event"] == 1, law.logpdf(known["time"]), law.logsf(known["time"]))
        return float(each.sum())
    return float(log_marginal(eta[None, :], known)[0])


@pytest.mark.thorough
@needs_stan
@pytest.mark.stan
@pytest.mark.parametrize(
    "name", cases(APPROXIMATED, "crossed", "counts", "total weights", "durations")
)
def test_approximated_density(name: str, table: pd.DataFrame) -> None:
    """`lp__` is the likelihood x prior, whatever effects are sampled about."""
    formula, family, nestings = APPROXIMATED[name]
    model, chosen = forced(formula, table, family)
    assert chosen == Marginalization("approximation", (0,), nestings, dense=False)
    draws, lp, _ = sampled(model, chosen)
    assert model.spec.family.working is not None
    weight, m = model.spec.family.working(model.design.outcome)[1], model.design.members[0]
    reference = weights(model, 0, draws[0])
    if m.weight is None:
        reference[m.group, m.member] = 1 / m.n
    ours = []
    for draw in draws:
        parts = random_parts(model, draw)
        eta = fixed_part(model, draw) + sum(Z @ draw[n] for n, (Z, _) in parts.items())
        total = log_prior(model, draw) + log_likelihood(model, draw, eta)
        total += sum(stats.norm.logpdf(draw[k] / sd).sum() for k, (_, sd) in parts.items())
        # The determinant of the map is that of the approximation's precision, to the -1/2.
        parts[model.spec.members[0].u] = reference, draw[model.spec.members[0].sigma]
        Z = np.hstack([m * sd for k, (m, sd) in parts.items() if raw_name(k) in draw])
        P = np.eye(Z.shape[1]) + Z.T @ (Z * weight[:, None])
        ours.append(total - 0.5 * np.linalg.slogdet(P)[1])
    assert np.ptp(ours) > 2, "the draws differ"
    np.testing.assert_allclose(lp - lp[0], np.array(ours) - ours[0], atol=1e-6)


def test_spectrum_is_the_weights(table: pd.DataFrame) -> None:
    model, chosen = forced("y ~ " + NESTED, table, "gaussian")
    found = spectrum(chosen, model.spec, model.design)
    W = weights(model, 0, {})
    V, Q = found.basis.toarray(), found.rotation.toarray()
    np.testing.assert_allclose(V.T @ np.diag(found.singular) @ Q.T, W, atol=1e-12)
    np.testing.assert_allclose(Q @ Q.T, np.eye(len(Q)), atol=1e-12)
    lengths = np.where(found.singular > 0, 1.0, 0.0)
    np.testing.assert_allclose(V @ V.T, np.diag(lengths), atol=1e-12)
    unit = model.design.nestings[0].unit
    for k, h in enumerate(found.unit):
        assert set(unit[np.abs(V[k]) > 1e-9]) <= {h}


def test_components_share_nothing(table: pd.DataFrame) -> None:
    model, chosen = forced("y ~ " + OWN, table, "gaussian", "components")
    found = components(chosen, model.spec, model.design)
    assert len(found.n_units) == 6, "a component for each country"
    m = model.design.members[0]
    groups = np.bincount(m.member)
    assert set(found.shared[0]) == set(np.flatnonzero(groups > 1))
    assert set(m.member[found.own[0]]) == set(np.flatnonzero(groups == 1))
    assert found.n_units.sum() == (groups > 1).sum() + 6
    assert not len(found.alone), "every group has a country"
    entries = found.place[found.place > 0]
    everything = np.arange(1, len(m.member) + 2 * model.design.J + 1)
    assert sorted(entries) == list(np.delete(everything, found.own[0]))


def test_groups_without_effects_are_alone(table: pd.DataFrame) -> None:
    model, chosen = forced("y ~ " + ALONE, table, "gaussian", "components")
    found = components(chosen, model.spec, model.design)
    m = model.design.members[0]
    shared = np.bincount(m.member)[m.member] > 1
    assert list(found.alone) == sorted(set(range(40)) - set(m.group[shared]))
    assert set(range(0, 40, 5)) <= set(found.alone)
    assert found.n_groups.sum() == 40 - len(found.alone)


def test_everything_else_is_sampled(table: pd.DataFrame) -> None:
    """Walks, durations and crowds of members stay with their usual programs."""
    walk = "y ~ z + mm(id(pid, gid), vars(x), RE=TRUE, ar=gid)"
    assert chosen_for(walk, table, "gaussian") is None
    rng = np.random.default_rng(5)
    rows = [(g, p) for g in range(600) for p in rng.choice(300, 3, replace=False)]
    crowd = pd.DataFrame(rows, columns=["gid", "pid"])
    crowd["y"] = rng.normal(size=600)[crowd["gid"]]
    assert chosen_for("y ~ 1 + mm(id(pid, gid), RE=TRUE)", crowd, "gaussian") is None


@needs_stan
def test_stans_compiler_accepts_every_way(table: pd.DataFrame) -> None:
    formulas = [(f, "gaussian") for f, _, _ in GAUSSIAN.values()]
    formulas += [(f, family) for f, family, _ in APPROXIMATED.values()]
    formulas += [
        ("y ~ z + mm(id(pid, gid), vars(x), RE=FALSE) + hm(id=cid)", "gaussian"),
        ("y ~ z + mm(id(pid, gid), vars(x), fn(w ~ 1/n), RE=TRUE)", "gaussian"),
        ("hit ~ 0 + z + mm(id(pid, gid), RE=TRUE)", "binomial"),
        ("y ~ z + mm(id(pid, gid), RE=re(1 + x)) + hm(id=cid)", "gaussian"),
    ]
    for formula, family in formulas:
        model = quiet(formula, table, family)
        assert choose_marginalization(model.spec, model.design) is not None, formula
        prepared = find_backend("stan").prepare(model)
        text = prepared.program
        check_syntax(text)
        check_names(model, text)
        assert max(len(x) for x in text.splitlines() if not x.lstrip().startswith("//")) <= 120
        block = text.split("\ndata {\n")[1].split("\n}")[0]
        lines = [line.split("//")[0] for line in block.splitlines()]
        declared = {x.split(";")[0].split()[-1] for x in lines if ";" in x}
        given = prepared.data(model.design)
        assert declared <= set(given), "the program without it must run on the same data"
        plain = stan.data(model.spec, model.design, prior_values(model))
        assert set(plain) <= set(given)


def test_a_model_without_some_groups_keeps_its_program(table: pd.DataFrame) -> None:
    """Refits of loo run the fit's program: data are for its strategy, whatever the sizes are."""
    from rmm.posterior.prediction.cross_validation import without_unit

    model = quiet("y ~ " + NESTED, table, "gaussian")
    less = without_unit(model, 3)
    assert less.design.J == model.design.J - 1
    prepared = find_backend("stan").prepare(model)
    whole, given = prepared.data(model.design), prepared.data(less.design)
    assert set(given) == set(whole)
    assert given["J"] == whole["J"] - 1
    assert len(given["row_start_basis_l1"]) == less.design.members[0].n_members + 1
    assert max(given["column_basis_l1"]) <= given["J"]


def test_a_fit_decides_once_what_is_integrated_out(
    table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The choice, and the singular vectors of its data, are made once; a fit and its summary."""
    counts = {"choice": 0, "data": 0}

    def choose(*given: Any) -> Any:
        counts["choice"] += 1
        return choose_marginalization(*given)

    def directions(*given: Any) -> Any:
        counts["data"] += 1
        return spectrum(*given)

    def drawn(text: str, values: Any, starts: Any, settings: Settings, progress: Any) -> Run:
        rng, shape = np.random.default_rng(1), (settings.chains, settings.draws)
        sizes = {"u_l1": (values["N_l1"],), "u_l3": (values["H"],), "b_l2": (2,), "b_l1": (1,)}
        draws = {n: rng.exponential(size=(*shape, *sizes.get(n, ()))) for n in settings.monitor}
        return Run(draws, {"diverging": np.zeros(shape, dtype=bool)}, 1.0, {"name": "stan"})

    engine = replace(find_backend("stan"), run=drawn)
    monkeypatch.setattr("rmm.fitting.pipeline.find_backend", lambda name: engine)
    monkeypatch.setattr("rmm.backends.stan.backend.choose_marginalization", choose)
    monkeypatch.setattr("rmm.backends.stan.marginalize.spectral_text.spectrum", directions)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = rmm.fit("y ~ " + NESTED, table, backend="stan", seed=1, draws=100, progress=False)
    assert "contraction" in fit.summary()
    assert "singular_l1" in fit.program_data
    assert not fit.own_program
    assert counts == {"choice": 1, "data": 1}
