"""Correlated effects of members in several roles (`cor = NAME`): closed forms, lme4, engines.

What is expected is computed here from the user's table and covariance matrices, by loops over
groups and members, without partial correlations, Cholesky factors or codes of members.
"""

from __future__ import annotations

import itertools
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats

import rmm
from rmm.backends.laplace.hyperparameters import log_prior, to_values
from rmm.backends.laplace.kernels.integrals import compiled_pattern, integrals_of
from rmm.backends.laplace.latent_model import latent_model
from rmm.backends.laplace.marginal_likelihood import EXACTLY, Integrand
from rmm.design.prepare import Model, prepare
from rmm.errors import BackendError, DataError, FormulaError, PriorError
from rmm.families import find_family
from rmm.formula.parse_formula import parse_formula
from rmm.model.correlations import correlation_matrix, correlations
from rmm.posterior.prior_draws import draw_parameters
from rmm.simulation import RecipeError, draw, draw_fixed, simulate
from rmm.simulation import prepare as prepare_recipe
from rmm.simulation.estimands.true_shares import variance_share

Array = np.ndarray[Any, Any]

HEAD = "mm(id(head, gid), RE = TRUE, cor = party, name = head)"
PARTNER = "mm(id(partner, gid), vars(x), RE = TRUE, cor = party, name = partner)"
MINOR = "mm(id(minor, gid), fn(w ~ q, c = FALSE), RE = TRUE, cor = party, name = minor)"
ESTIMATED = (
    "mm(id(partner, gid), vars(x), fn(w ~ 1/n^exp(-b1*q)), RE = TRUE, cor = party, name = partner)"
)
TWO = f"y ~ 1 + {HEAD} + {PARTNER}"
FORMULAS = {
    "two": TWO,
    "three": f"y ~ 1 + {HEAD} + {PARTNER} + {MINOR}",
    "estimated": f"y ~ 1 + {ESTIMATED} + {HEAD}",
    "three_estimated": f"y ~ 1 + {MINOR} + {ESTIMATED} + {HEAD}",
}
ROLES = ("head", "partner", "minor")
SDS = {"head": 1.0, "partner": 0.8, "minor": 0.5}
#: Correlations of head and partner, head and minor, partner and minor.
COR = {("head", "partner"): 0.6, ("head", "minor"): -0.3, ("partner", "minor"): 0.1}


def covariance(names: tuple[str, ...], sds: Any = SDS, cor: Any = COR) -> Array:
    out = np.diag([sds[a] ** 2 for a in names])
    for (i, a), (j, b) in itertools.combinations(enumerate(names), 2):
        value = cor[a, b] if (a, b) in cor else cor[b, a]
        out[i, j] = out[j, i] = value * sds[a] * sds[b]
    return out


def cabinets(
    groups: int = 60, parties: int = 14, seed: int = 5, *, minors: bool = False
) -> pd.DataFrame:
    """Governments of a head, partners and, in some, small parties: rows have one role each.

    Party 0 is never a head, the last party never a partner.
    """
    rng = np.random.default_rng(seed)
    u = dict(zip(ROLES, rng.multivariate_normal(np.zeros(3), covariance(ROLES), parties).T,
                 strict=True))  # fmt: skip
    rows = []
    for group in range(groups):
        order = rng.permutation(parties)
        head = int(order[order != 0][0])
        rest = [int(p) for p in order if p not in (head, parties - 1)][: rng.integers(1, 4)]
        minor = [int(p) for p in order[-4:-1] if p != head and p not in rest][: group % 3 * minors]
        x, q = rng.normal(size=(2, len(rest)))
        share = rng.uniform(0.2, 1, len(minor))
        y = 1 + u["head"][head] + np.mean(u["partner"][rest] + 0.5 * x) + u["minor"][minor] @ share
        own = [{"head": f"p{head:02d}"}]
        own += [
            {"partner": f"p{p:02d}", "x": a, "q": b} for p, a, b in zip(rest, x, q, strict=True)
        ]
        own += [{"minor": f"p{p:02d}", "q": a} for p, a in zip(minor, share, strict=True)]
        noise = rng.normal(0, 0.4)
        rows += [{"gid": f"g{group:03d}", "y": y + noise, **row} for row in own]
    return pd.DataFrame(rows).sample(frac=1, random_state=1).reset_index(drop=True)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return cabinets()


@pytest.fixture(scope="module")
def three() -> pd.DataFrame:
    return cabinets(minors=True)


def table_of(name: str, groups: int = 60, parties: int = 14) -> pd.DataFrame:
    """A table for one of `FORMULAS`."""
    return cabinets(groups, parties, minors="three" in name)


# ---- formulas ----------------------------------------------------------------------------------


def test_formulas_name_their_roles() -> None:
    found = parse_formula(TWO).members
    assert [block.roles for block in found] == ["party", "party"]
    plain = parse_formula("y ~ 1 + mm(id(a, g), cor = NULL)")
    assert plain.members[0].roles is None
    alone = parse_formula("y ~ 1 + mm(id(a, g), vars(x), cor = p) + mm(id(b, g), cor = p)")
    assert all(block.random for block in alone.members), "cor = implies random effects"


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("y ~ 1 + mm(id(a, g), cor = TRUE) + mm(id(b, g), cor = TRUE)", r"re\(1 \+ x, cor = TRUE"),
        ("y ~ 1 + mm(id(a, g), cor = 'p') + mm(id(b, g), cor = 'p')", "must be a name"),
        ("y ~ 1 + mm(id(a, g), cor = p__q) + mm(id(b, g), cor = p__q)", "must be a name"),
        ("y ~ 1 + mm(id(a, g), RE = TRUE, cor = p) + mm(id(b, g))", "in only one mm"),
        ("y ~ 1 + mm(id(a, g), cor = p) + mm(id(b, g), cor = q)", "Other names .*: `q`"),
        ("y ~ 1 + mm(id(a, g), cor = p, name = p) + mm(id(b, g), cor = p)", "have the same name"),
        ("y ~ 1 + mm(id(a, g), cor = p, ar = t) + mm(id(b, g), cor = p)", "`ar =` cannot be used"),
        ("y ~ 1 + mm(id(a, g), cor = p, cov = A) + mm(id(b, g), cor = p)", "`cov =` cannot be us"),
        (
            "y ~ 1 + mm(id(a, g), vars(x), RE = FALSE, cor = p) + mm(id(b, g), cor = p)",
            "`cor =` needs random effects, but RE is FALSE",
        ),
        (
            "y ~ 1 + mm(id(a, g), vars(x), RE = re(1 + x), cor = p) + mm(id(b, g), cor = p)",
            "`cor =` can be used only with random intercepts",
        ),
    ],
)
def test_messages_about_formulas(formula: str, message: str) -> None:
    with pytest.raises(FormulaError, match=message):
        parse_formula(formula)


# ---- members -----------------------------------------------------------------------------------


def test_roles_share_members_by_their_ids(table: pd.DataFrame) -> None:
    model = prepare(TWO, table)
    every = sorted(set(table["head"].dropna()) | set(table["partner"].dropna()))
    for k, column in enumerate(("head", "partner")):
        member, units = model.design.members[k], model.grouped.members[k]
        assert list(model.design.coords[f"member_{column}"]) == every
        assert member.n_members == len(every)
        assert member.n_present == table[column].nunique() < len(every)
        own = table[column].to_numpy()[member.rows]
        assert list(units.labels[member.member]) == list(own)
        assert (np.diff(member.group * len(every) + member.member) > 0).all(), "sorted"
    other = prepare(TWO, table.sample(frac=1, random_state=9).reset_index(drop=True))
    for a, b in zip(model.design.members, other.design.members, strict=True):
        np.testing.assert_array_equal(a.member, b.member)


def test_ids_without_common_members_are_refused(table: pd.DataFrame, three: pd.DataFrame) -> None:
    with pytest.raises(DataError, match=r"No member of column `head` is also in `partner`"):
        prepare(TWO, table.assign(head="x" + table["head"]))
    numbers = table.assign(
        head=pd.to_numeric(table["head"].str[1:]),
        partner=pd.to_numeric(table["partner"].str[1:]).astype("Int64").astype("string"),
    )
    with pytest.raises(DataError, match="the same but for their type"):
        prepare(TWO, numbers)
    with pytest.raises(DataError, match="No member of column `minor` is also in `head`, `partner`"):
        prepare(FORMULAS["three"], three.assign(minor="x" + three["minor"]))


def test_one_id_column_may_have_both_roles(table: pd.DataFrame) -> None:
    """The same model from one column of ids and weights that are 0 without the role."""
    one = table.assign(pid=table["head"].fillna(table["partner"]), lead=table["head"].notna() * 1.0)
    formula = (
        "y ~ 1 + mm(id(pid, gid), fn(w ~ lead, c = FALSE), RE = TRUE, cor = party, name = head)"
        " + mm(id(pid, gid), fn(w ~ (1 - lead)/(n - 1), c = FALSE), RE = TRUE, cor = party,"
        " name = partner)"
    )
    theirs = prepare(TWO.replace("vars(x), ", ""), table, priors=_PRIORS)
    ours = prepare(formula, one.drop(columns=["head", "partner"]), priors=_PRIORS)
    found = []
    for model in (ours, theirs):
        latent = latent_model(model.spec, model.design, model.priors)
        theta = np.array([[0.3, 0.2, 0.5, 0.1], [0.1, 0.2, 0.5, -0.4]])
        found.append(Integrand(latent).inner(to_values(theta, latent.hyper), 2).value)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[0], found[1], rtol=1e-9)


_PRIORS = [
    "b_l2 ~ normal(0, 2)",
    "sigma_l1_head ~ half_normal(1)",
    "sigma_l1_partner ~ half_normal(1)",
    "sigma_l2 ~ half_normal(1)",
]


# ---- laplace against normal densities ----------------------------------------------------------


def weights(table: pd.DataFrame, role: str, b_w: float | None) -> dict[tuple[str, str], float]:
    """(group, party) -> weight of a role; b_w is None where weights are not estimated."""
    own = table.dropna(subset=role)
    out = {}
    for group, rows in own.groupby("gid"):
        n = len(rows)
        raw = np.full(n, 1 / n) if role != "minor" else rows["q"].to_numpy()
        if role == "partner" and b_w is not None:
            raw = n ** -np.exp(-b_w * rows["q"].to_numpy())
            raw = raw / raw.sum()
        out |= {(group, p): w for p, w in zip(rows[role], raw, strict=True)}
    return out


def effects_covariance(
    table: pd.DataFrame, roles: tuple[str, ...], S: Array, b_w: float | None = None
) -> Array:
    """(J, J) covariance of the groups' sums of effects, by a loop over pairs of memberships."""
    groups = sorted(table["gid"].unique())
    place = {g: j for j, g in enumerate(groups)}
    out = np.zeros((len(groups), len(groups)))
    known = {role: weights(table, role, b_w) for role in roles}
    for (k, a), (m, b) in itertools.product(enumerate(roles), repeat=2):
        for (g, p), w in known[a].items():
            for (h, q), v in known[b].items():
                if p == q:
                    out[place[g], place[h]] += w * v * S[k, m]
    return out


def partner_column(table: pd.DataFrame, b_w: float | None) -> Array:
    """(J,) weighted sums of x of partners."""
    w, own = weights(table, "partner", b_w), table.dropna(subset="partner")
    total = dict.fromkeys(sorted(table["gid"].unique()), 0.0)
    for g, p, x in zip(own["gid"], own["partner"], own["x"], strict=True):
        total[g] += w[g, p] * x
    return np.array(list(total.values()))


def outcome(table: pd.DataFrame) -> Array:
    return np.asarray(table.groupby("gid", sort=True)["y"].first())


@pytest.mark.parametrize("name", FORMULAS)
def test_a_normal_outcome_has_its_marginal_density(name: str) -> None:
    """By SciPy's multivariate normal to 1e-8; kernels and NumPy agree to 1e-9."""
    table = table_of(name)
    model = prepare(FORMULAS[name], table)
    roles = tuple(part.block.name for part in model.spec.members)
    latent = latent_model(model.spec, model.design, model.priors)
    integrand = Integrand(latent)
    theta = np.abs(np.random.default_rng(5).normal(size=(3, len(latent.hyper))))
    theta[1] *= [-1 if h.role == "correlation" else 1 for h in latent.hyper]
    values = to_values(theta, latent.hyper)
    ours = integrand.inner(values, len(theta)).value
    y, centre = outcome(table), model.design.members[roles.index("partner")].b_center
    (alpha,), (slope,) = model.priors.elements["alpha"], model.priors.elements["b_l1_partner"]
    for s in range(len(theta)):
        sds = np.array([values[f"sigma_l1_{role}"][s, 0] for role in roles])
        R = correlation_matrix(correlations(values["pcor_l1_party"][s]))
        b_w = values["b_w_partner"][s, 0] if "b_w_partner" in values else None
        cov = effects_covariance(table, roles, R * np.outer(sds, sds), b_w)
        cov += values["sigma_l2"][s, 0] ** 2 * np.eye(len(y)) + alpha.hyper["scale"] ** 2
        column = partner_column(table, b_w) - centre[0]
        cov += slope.hyper["scale"] ** 2 * np.outer(column, column)
        mean = np.full(len(y), alpha.hyper["location"])
        expected = float(stats.multivariate_normal.logpdf(y, mean, cov))
        assert ours[s] == pytest.approx(expected, rel=1e-8)
    compiled = integrals_of(integrand, compiled_pattern(integrand))
    if compiled is not None:
        found = compiled.integrals(theta, None, EXACTLY)
        np.testing.assert_allclose(found.value, ours, rtol=1e-9)
        np.testing.assert_allclose(found.prior, log_prior(theta, latent.hyper), rtol=1e-9)


@pytest.mark.parametrize("name", FORMULAS)
def test_binary_outcomes_have_the_same_integrals_by_kernels(name: str) -> None:
    table = table_of(name)
    binary = table.assign(y=(table["y"] > table["y"].median()).astype(int))
    model = prepare(FORMULAS[name], binary, find_family("binomial", {}))
    latent = latent_model(model.spec, model.design, model.priors)
    integrand = Integrand(latent)
    theta = np.abs(np.random.default_rng(6).normal(size=(3, len(latent.hyper))))
    ours = integrand.inner(to_values(theta, latent.hyper), 3).value
    compiled = integrals_of(integrand, compiled_pattern(integrand))
    if compiled is not None:
        found = compiled.integrals(theta, None, EXACTLY).value
        np.testing.assert_allclose(found, ours, rtol=1e-9)


def large() -> pd.DataFrame:
    """300 governments of 30 parties, so that no estimate lies on the edge."""
    return cabinets(300, 30, seed=7)


def restricted(model: Model) -> tuple[Any, Any]:
    """-2 log restricted likelihood of laplace, with flat priors of coefficients; and where."""
    integrand = Integrand(latent_model(model.spec, model.design, model.priors))

    def criterion(point: Array) -> float:
        values = {
            "sigma_l1_head": np.exp(point[None, [0]]),
            "sigma_l1_partner": np.exp(point[None, [1]]),
            "pcor_l1_party": np.tanh(point[None, [2]]),
            "sigma_l2": np.exp(point[None, [3]]),
        }
        return float(-2 * integrand.inner(values, 1).value[0])

    best = optimize.minimize(criterion, np.array([0.0, 0.0, 0.1, 0.0]), method="BFGS", tol=1e-6)
    return best.fun, np.array([*np.exp(best.x[:2]), np.tanh(best.x[2]), np.exp(best.x[3])])


def dense_restricted(frame: pd.DataFrame) -> Array:
    """REML estimates by SciPy from dense covariance matrices: Harville (1974), Biometrika 61."""
    y, X = outcome(frame), np.column_stack([np.ones(frame["gid"].nunique()),
                                            partner_column(frame, None)])  # fmt: skip
    unit = np.zeros((3, 2, 2))
    unit[0, 0, 0] = unit[1, 1, 1] = unit[2, 0, 1] = unit[2, 1, 0] = 1.0
    parts = [effects_covariance(frame, ("head", "partner"), S) for S in unit]

    def criterion(point: Array) -> float:
        a, b, r, s = *np.exp(point[:2]), np.tanh(point[2]), np.exp(point[3])
        V = a**2 * parts[0] + b**2 * parts[1] + r * a * b * parts[2] + s**2 * np.eye(len(y))
        W = np.linalg.inv(V)
        inside = X.T @ W @ X
        rest = y - X @ np.linalg.solve(inside, X.T @ W @ y)
        logs = np.linalg.slogdet(V)[1] + np.linalg.slogdet(inside)[1]
        return float(logs + rest @ W @ rest)

    x = optimize.minimize(criterion, np.array([0.1, 0.1, 0.0, -0.5]), method="BFGS", tol=1e-6).x
    return np.array([*np.exp(x[:2]), np.tanh(x[2]), np.exp(x[3])])


FLAT = ["b_l2 ~ normal(0, 1e4)", "b_l1_partner ~ normal(0, 1e4)"]


@pytest.mark.thorough
def test_restricted_likelihood_estimates_are_those_of_dense_matrices() -> None:
    """Both optimisers stop within 1e-4 of the optimum: BFGS by differences."""
    frame = cabinets(120, 25, seed=7)
    _, ours = restricted(prepare(TWO, frame, priors=FLAT))
    np.testing.assert_allclose(ours, dense_restricted(frame), rtol=5e-4)


# Two columns, a and b, with random slopes by party: lme4's matrix Z' is replaced by that of roles.
R = """
suppressPackageStartupMessages(library(lme4))
library(Matrix)
d <- read.csv("rows.csv", colClasses = c(gid = "character", party = "character"))
g <- read.csv("groups.csv", colClasses = c(gid = "character"))
N <- length(unique(d$party)); G <- nrow(g)
g$party <- factor(rep_len(sort(unique(d$party)), G)); g$a <- rnorm(G); g$b <- rnorm(G)
m <- lFormula(y ~ 1 + wx + (0 + a + b | party), g, REML = TRUE)
m$reTrms$Zt <- sparseMatrix(i = 2 * (match(d$party, levels(g$party)) - 1) + d$role,
                            j = match(d$gid, g$gid), x = d$w, dims = c(2 * N, G))
f <- do.call(mkLmerDevfun, m)
o <- optimizeLmer(f, control = list(xtol_abs = 1e-10, ftol_abs = 1e-12))
r <- mkMerMod(environment(f), o, m$reTrms, m$fr)
v <- as.data.frame(VarCorr(r))
cat(paste(format(c(v$sdcor, REMLcrit(r)), digits = 12), collapse = " "))
"""


@pytest.mark.thorough
def test_restricted_likelihood_estimates_are_those_of_lme4(tmp_path: Path) -> None:
    if shutil.which("Rscript") is None:
        pytest.skip("R is not installed (Debian: r-base-core)")
    check = ["Rscript", "-e", "suppressPackageStartupMessages(library(lme4))"]
    if subprocess.run(check, capture_output=True, check=False).returncode:
        pytest.skip("R has no package lme4 (Debian: r-cran-lme4)")
    frame = cabinets(120, 25, seed=7)
    rows = [
        {"gid": g, "party": p, "role": k, "w": w}
        for k, role in enumerate(("head", "partner"), start=1)
        for (g, p), w in weights(frame, role, None).items()
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "rows.csv", index=False)
    groups = sorted(frame["gid"].unique())
    wx = partner_column(frame, None)
    pd.DataFrame({"gid": groups, "y": outcome(frame), "wx": wx}).to_csv(
        tmp_path / "groups.csv", index=False
    )
    (tmp_path / "fit.R").write_text(R)
    command = ["Rscript", "fit.R"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *theirs, reml = [float(v) for v in done.stdout.split()]
    value, ours = restricted(prepare(TWO, frame, priors=FLAT))
    np.testing.assert_allclose(ours, theirs, rtol=5e-4)  # sd, sd, correlation, residual
    # lme4's criterion lacks the priors' (2 pi 1e8)^(-1/2) of both coefficients.
    assert value - 2 * np.log(2 * np.pi * 1e8) == pytest.approx(reml, abs=2e-3)


# ---- priors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        ("cor_l1_party ~ normal(0, 1)", r"`cor_l1_party ~ lkj\(eta\)`"),
        ("cor_l1_party <- 0", r"or `cor =` from mm\(\)"),
        ("cor_l1 ~ lkj(2)", "the model has no parameter `cor_l1`.* mean `cor_l1_party`"),
        ("sigma_l1_head ~ lkj(2)", r"lkj\(\) is the prior of correlations"),
    ],
)
def test_messages_about_priors(prior: str, message: str, table: pd.DataFrame) -> None:
    with pytest.raises(PriorError, match=message):
        prepare(TWO, table, priors=[prior])


def test_prior_draws_are_jointly_normal(three: pd.DataFrame) -> None:
    """Effects over their own covariance are chi-square; correlations are those of LKJ(1.5)."""
    model = prepare(FORMULAS["three"], three, priors={"cor_l1_party": "lkj(1.5)"})
    labels = ["head, partner", "head, minor", "partner, minor"]
    assert list(model.design.coords["pair_l1_party"]) == labels
    found = draw_parameters(model, 4000, np.random.default_rng(3))
    law = stats.beta(2.0, 2.0, -1, 2)
    for k in range(3):
        assert stats.kstest(found["cor_l1_party"][:, k], law.cdf).pvalue > 1e-3 / 3
    u = np.stack([found[f"u_l1_{role}"] for role in ROLES], axis=2)
    sd = np.column_stack([found[f"sigma_l1_{role}"] for role in ROLES])
    S = sd[:, :, None] * sd[:, None, :] * correlation_matrix(found["cor_l1_party"])
    squares = np.einsum("smk,skl,sml->sm", u, np.linalg.inv(S), u)
    assert stats.kstest(squares[:, 0], stats.chi2(3).cdf).pvalue > 1e-3


def test_initial_values_are_correlations(table: pd.DataFrame) -> None:
    fit = rmm.fit(TWO, table, backend="laplace", inits={"cor_l1_party": 0.5}, seed=1)
    assert "cor_l1_party[head, partner]" in fit.summary().index
    with pytest.raises(BackendError, match="correlations of a positive definite matrix"):
        rmm.fit(TWO, table, backend="laplace", inits={"cor_l1_party": 1.5}, seed=1)


# ---- after the fit -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fit() -> rmm.Fit:
    return rmm.fit(TWO, large(), backend="laplace", seed=1, ess=2000)


def drawn(fit: rmm.Fit, name: str) -> Array:
    values = fit.draws["posterior"][name].to_numpy()
    return np.asarray(values.reshape(-1, *values.shape[2:]))


def test_the_truth_comes_back(fit: rmm.Fit) -> None:
    """|z| < 4 for three parameters."""
    summary = fit.summary()
    truth = {"sigma_l1_head": 1.0, "sigma_l1_partner": 0.8, "cor_l1_party[head, partner]": 0.6}
    for name, value in truth.items():
        assert abs(summary["mean"][name] - value) < 4 * summary["sd"][name], name
    assert summary["contraction"]["cor_l1_party[head, partner]"] > 0.5
    assert "The correlation of the members' effects in the roles head, partner is" in str(
        fit.report()
    )


def test_a_role_that_a_member_never_has_is_known_from_the_other(fit: rmm.Fit) -> None:
    """Of party 0, no head, u_head given u_partner is normal(r s_h/s_p u_p, s_h^2 (1 - r^2))."""
    labels = list(fit.model.design.coords["member_head"])
    never = labels.index("p00")
    assert never not in fit.model.design.members[0].member
    a, b = drawn(fit, "sigma_l1_head"), drawn(fit, "sigma_l1_partner")
    r = drawn(fit, "cor_l1_party")[:, 0]
    head, partner = (drawn(fit, f"u_l1_{role}")[:, never] for role in ("head", "partner"))
    z = (head - r * a / b * partner) / (a * np.sqrt(1 - r**2))
    assert stats.kstest(z[::4], "norm").pvalue > 1e-3
    assert abs(np.corrcoef(z, partner)[0, 1]) < 0.08
    effects = fit.member_effects()
    assert list(effects.index[:2]) == ["p00", "p01"]


def test_predictions_of_known_members_in_a_role_that_is_new_for_them(fit: rmm.Fit) -> None:
    new = pd.DataFrame({"gid": ["a"], "head": ["p00"], "partner": [None], "x": [np.nan]})
    found = fit.predict(new, "linear", draws=True).to_numpy().ravel()
    never = list(fit.model.design.coords["member_head"]).index("p00")
    known = drawn(fit, "b_l2")[:, 0] + drawn(fit, "u_l1_head")[:, never]
    np.testing.assert_allclose(found, known, rtol=1e-9)


def test_new_members_have_correlated_effects(fit: rmm.Fit) -> None:
    """A group that a new member heads and one in which it is partner: each draw's covariance."""
    many = 300
    who = [f"new{i}" for i in range(many)]
    none = [None] * many
    new = pd.DataFrame(
        {
            "gid": [f"{role}{i:03d}" for role in "ab" for i in range(many)],
            "head": [*who, *none],
            "partner": [*none, *who],
            "x": [*[np.nan] * many, *[0.0] * many],
        }
    )
    every = fit.predict(new, "linear", draws=True).to_numpy().reshape(-1, 2, many)
    known = fit.predict(new, "linear", effects="known", draws=True).to_numpy()
    u = every - known.reshape(-1, 2, many)
    sd = np.column_stack([drawn(fit, "sigma_l1_head"), drawn(fit, "sigma_l1_partner")])
    z = u / sd[:, :, None]
    r = drawn(fit, "cor_l1_party")[:, 0]
    squares = (z[:, 0] ** 2 - 2 * r[:, None] * z[:, 0] * z[:, 1] + z[:, 1] ** 2) / (
        1 - r[:, None] ** 2
    )
    assert stats.kstest(np.diag(squares[:many]), stats.chi2(2).cdf).pvalue > 1e-3
    assert np.mean(z[:, 0] * z[:, 1]) == pytest.approx(r.mean(), abs=0.05)
    alone = fit.predict(new[many : many + 1], "linear", draws=True).to_numpy()
    np.testing.assert_allclose(alone.ravel(), every[:, 1, 0])


def test_saved_fits_and_comparisons(fit: rmm.Fit, tmp_path: Path) -> None:
    again = rmm.load(fit.save(tmp_path / "fit.nc"))
    pd.testing.assert_frame_equal(again.summary(), fit.summary())
    pd.testing.assert_frame_equal(again.member_effects(), fit.member_effects())
    assert "cor_l1_party[head, partner]" in fit.prior_sensitivity().table.index
    ranks = fit.estimand("rank", member="p00", block=1)
    assert 1 <= float(np.mean(ranks)) <= 30
    with pytest.raises(rmm.DataError, match="'p00' is in no row of column `head`"):
        fit.estimand("rank", of="contribution", member="p00", block=1)


@pytest.mark.filterwarnings("ignore::rmm.errors.SpecificationWarning")
def test_no_correlation_has_its_bayes_factor() -> None:
    """The density ratio at 0 is the ratio of the evidence of independent roles, priors alike."""
    frame = cabinets(80, 14, seed=3)
    moved = {f"p{i:02d}": f"p{(i + 5) % 14:02d}" for i in range(14)}  # 0 is not in the tail
    frame["partner"] = frame["partner"].map(moved)
    formulas = (TWO, TWO.replace(", cor = party", ""))
    first, second = (
        rmm.fit(f, frame, backend="laplace", seed=1, ess=2000, draws=2000) for f in formulas
    )
    row = first.hypothesis("cor_l1_party[head, partner] = 0").table.iloc[0]
    both = first.log_evidence(), second.log_evidence()
    error = np.sqrt(row["log_bf_error"] ** 2 + both[0].mcse ** 2 + both[1].mcse ** 2)
    assert abs(row["log_bf"] - (both[1].value - both[0].value)) < 4 * error
    assert error < 0.3


@pytest.mark.filterwarnings("ignore::rmm.errors.SpecificationWarning")
def test_groups_left_out_leave_members_out() -> None:
    """loo by refits: a group with the only membership of a party is predicted as of a new party."""
    frame = cabinets(25, 8, seed=2)
    extra = pd.DataFrame({"gid": ["z"] * 2, "y": [1.0] * 2, "head": ["once", None],
                          "partner": [None, "p01"], "x": [np.nan, 0.1]})  # fmt: skip
    own = rmm.fit(TWO, pd.concat([frame, extra]), backend="laplace", seed=1)
    found = own.kfold(5, seed=1) if hasattr(own, "kfold") else own.loo(refit=True)
    assert np.isfinite(found.elpd)


# ---- variances and simulation ------------------------------------------------------------------

BOTH = (
    "y ~ 1 + mm(id(pid, gid), fn(w ~ lead, c = FALSE), RE = TRUE, cor = party, name = head)"
    " + mm(id(pid, gid), vars(x), fn(w ~ 1/(1 + (n - 1)*exp(-b1*x))), RE = TRUE, cor = party,"
    " name = every)"
)
TRUTH: dict[str, Any] = {
    "b_l2[Intercept]": 0.5,
    "b_l1_every[x]": 1.0,
    "b_w_every[b1]": 0.5,
    "sigma_l1_head": 1.0,
    "sigma_l1_every": 0.8,
    "cor_l1_party[head, every]": -0.5,
    "sigma_l2": 0.5,
}
PLACE = {"kind": "synthetic", "groups": 300, "members": 40, "size": 3}
COVARIATES = {
    "x": {"level": "membership"},
    "lead": {"level": "membership", "distribution": "binary", "probability": 0.4},
}


def simulated(truth: Any = TRUTH, seed: int = 4, **more: Any) -> Any:
    place = {**PLACE, "member": "pid", "group": "gid"}
    return simulate(BOTH, truth, membership=place, covariates=COVARIATES, seed=seed, **more)


def recipe(**changes: Any) -> Any:
    return prepare_recipe(
        {
            "membership": {**PLACE, "member": "pid", "group": "gid", **changes},
            "covariates": COVARIATES,
            "truth": {"formula": BOTH, "family": "gaussian", "parameters": TRUTH},
        },
        Path("."),
    )


def test_simulated_effects_have_the_covariance() -> None:
    """Within 5 standard errors."""
    made = recipe(members=2_000, groups=2_000, size=1)
    rng = np.random.default_rng(8)
    effects = draw(made, draw_fixed(made, lambda part: rng), rng).effects
    u = np.array([effects["u_l1_head"], effects["u_l1_every"]])
    known = np.array([[1.0, -0.4], [-0.4, 0.64]])
    error = np.sqrt((np.outer(np.diag(known), np.diag(known)) + known**2) / u.shape[1])
    assert (np.abs(np.cov(u) - known) < 5 * error).all()


def test_true_shares_have_the_covariance_of_roles() -> None:
    made = recipe(groups=50)
    rng = np.random.default_rng(1)
    data = draw(made, draw_fixed(made, lambda part: rng), rng)
    frame = data.frame()
    raw = 1 / (1 + 2 * np.exp(-0.5 * frame["x"]))
    w, lead = raw / raw.groupby(frame["gid"]).transform("sum"), frame["lead"]
    each = {
        "members_head": (lead**2).sum() / 50,
        "members_every": 0.64 * (w**2).sum() / 50,
        "members_head, covariance with members_every": -2 * 0.4 * (lead * w).sum() / 50,
        "residual": 0.25,
    }
    for name, value in each.items():
        found = variance_share(data, component=name)
        assert found == pytest.approx(value / sum(each.values())), name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cor_l1_party[head, every]": 1.2}, "between -1 and 1"),
        ({"cor_l1_party[head, every]": {"prior": "normal(0, 1)"}}, r"lkj\(eta\) is the prior"),
    ],
)
def test_messages_about_truths(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        simulated({**TRUTH, **changes})


def test_distributions_of_effects_in_roles_are_normal() -> None:
    with pytest.raises(RecipeError, match="a random effect of the formula"):
        simulated(effects={"u_l1_head": {"distribution": "t", "df": 4}})


def test_variances_have_the_covariance_of_roles() -> None:
    """Over draws, from the table: w differs between draws."""
    frame = simulated().data
    own = rmm.fit(BOTH, frame, backend="laplace", seed=1)
    a, b = drawn(own, "sigma_l1_head"), drawn(own, "sigma_l1_every")
    r, b_w = drawn(own, "cor_l1_party")[:, 0], drawn(own, "b_w_every")[:, 0]
    x, lead = frame["x"].to_numpy(), frame["lead"].to_numpy()
    group = np.unique(frame["gid"], return_inverse=True)[1]
    raw = 1 / (1 + 2 * np.exp(-b_w[:, None] * x))
    totals = np.stack([np.bincount(group, one) for one in raw])
    w = raw / totals[:, group]
    expected = {
        "members_head": a**2 * (lead**2).sum() / 300,
        "members_every": b**2 * (w**2).sum(1) / 300,
        "members_head, covariance with members_every": 2 * r * a * b * (w * lead).sum(1) / 300,
    }
    found = own.variance_components()["variance"]["mean"]
    assert list(found.index) == [*expected, "residual"]
    for name, value in expected.items():
        assert found[name] == pytest.approx(value.mean()), name
    summary = own.summary()
    for name, value in TRUTH.items():
        assert abs(summary["mean"][name] - value) < 4 * summary["sd"][name], name


def test_roles_never_in_one_group_have_no_covariance(fit: rmm.Fit) -> None:
    found = fit.variance_components()
    assert list(found.index) == ["members_head", "members_partner", "residual"]


# ---- engines -----------------------------------------------------------------------------------


@pytest.mark.parity
@pytest.mark.stan
@pytest.mark.jags
@pytest.mark.parametrize(
    ("name", "family"), [("two", "gaussian"), ("three_estimated", "gaussian"), ("two", "binomial")]
)
@pytest.mark.filterwarnings(
    "ignore::rmm.errors.ConvergenceWarning", "ignore::rmm.errors.SpecificationWarning"
)
def test_engines_agree(name: str, family: str) -> None:
    """Means of all parameters within 4 Monte Carlo errors: false alarm below 0.2% a model."""
    frame = table_of(name, 300, 30)
    if family == "binomial":
        frame["y"] = (frame["y"] > frame["y"].median()).astype(int)
    known = {"laplace": {"ess": 3000}, "stan": {"draws": 1000}, "jags": {"draws": 6000}}
    tables = {
        engine: rmm.fit(
            FORMULAS[name], frame, family, backend=engine, seed=7, progress=False, **more
        ).summary()
        for engine, more in known.items()
    }
    for one, other in itertools.combinations(known, 2):
        a, b = tables[one], tables[other]
        z = (a["mean"] - b["mean"]) / np.hypot(a["mcse_mean"], b["mcse_mean"])
        assert z.abs().max() < 4, (one, other, z)
        np.testing.assert_allclose(a["sd"], b["sd"], rtol=0.15)


@pytest.mark.parametrize(
    "backend",
    [
        "laplace",
        pytest.param("jags", marks=pytest.mark.jags),
        pytest.param("stan", marks=[pytest.mark.stan, pytest.mark.parity]),
    ],
)
@pytest.mark.filterwarnings(
    "ignore::rmm.errors.ConvergenceWarning", "ignore::rmm.errors.SpecificationWarning"
)
def test_without_information_programs_have_the_prior(backend: str, three: pd.DataFrame) -> None:
    """A residual sd of 1e4: each correlation of three is 2 beta(2.5, 2.5) - 1."""
    priors = ["sigma_l2 <- 10000", "b_l2 ~ normal(0, 1)", "cor_l1_party ~ lkj(2)"]
    priors += ["b_l1_partner ~ normal(0, 1)"]
    priors += [f"sigma_l1_{role} ~ half_normal(1)" for role in ROLES]
    options = {"ess": 4000} if backend == "laplace" else {"warmup": 500}
    own = rmm.fit(
        FORMULAS["three"], three, backend=backend, priors=priors, seed=3, draws=2000,
        progress=False, **options,
    )  # fmt: skip
    draws, law = drawn(own, "cor_l1_party"), stats.beta(2.5, 2.5, -1, 2)
    labels = own.model.design.coords["pair_l1_party"]
    rows = own.summary().loc[[f"cor_l1_party[{v}]" for v in labels]]
    assert (rows["mean"].abs() < 4 * rows["mcse_mean"]).all()
    size = np.minimum(rows["ess_bulk"].to_numpy(), len(draws))
    for k, count in enumerate(size):  # thinned to independent ones
        thin = draws[:: max(1, int(np.ceil(len(draws) / count)) * 2), k]
        assert stats.kstest(thin, law.cdf).pvalue > 1e-3 / 3
