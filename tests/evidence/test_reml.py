"""Known weights: agreement with restricted maximum likelihood, computed apart from the package.

y ~ N(X b, V), V = sigma^2 I + sigma_u^2 W W' + sigma_v^2 Z Z'. With flat priors on b and prior
p(sds), the posterior of the sds is proportional to the restricted likelihood times p(sds)
(Harville 1974, "Bayesian inference for variance components using only error contrasts"):
the REML estimate is the mode, and the posterior means are integrals over three sds, of which
sigma is done on a fine grid for every pair of ratios sigma_u / sigma, sigma_v / sigma.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import linalg, optimize

import rmm
from tests.coalitions import shared_file

Array = np.ndarray[Any, Any]
SCALE = 25.0  # of the half-Cauchy priors of priors="rmm": flat where these sds are


@dataclass(frozen=True)
class Marginal:
    """The Gaussian model with the effects integrated out; dense on purpose."""

    y: Array
    X: Array
    WW: Array
    ZZ: Array

    def pieces(self, ratios: Array) -> tuple[float, float, Array, Array]:
        """(log determinants / 2, residual sum of squares, GLS b, its covariance / sigma^2)."""
        V = np.eye(len(self.y)) + ratios[0] ** 2 * self.WW + ratios[1] ** 2 * self.ZZ
        root = linalg.cholesky(V, lower=True)
        X = linalg.solve_triangular(root, self.X, lower=True)
        y = linalg.solve_triangular(root, self.y, lower=True)
        b, *_ = np.linalg.lstsq(X, y, rcond=None)
        gram = X.T @ X
        half = np.log(np.diag(root)).sum() + np.linalg.slogdet(gram)[1] / 2
        return half, float(np.sum((y - X @ b) ** 2)), b, np.linalg.inv(gram)

    @property
    def df(self) -> int:
        return self.X.shape[0] - self.X.shape[1]

    def estimate(self) -> dict[str, Any]:
        """REML: sigma^2 = rss / df is profiled out, the ratios are found by search."""

        def loss(log_ratios: Array) -> float:
            half, rss, *_ = self.pieces(np.exp(log_ratios))
            return half + self.df / 2 * np.log(rss)

        found = optimize.minimize(
            loss, np.log([0.5, 0.5]), method="Nelder-Mead", options={"xatol": 1e-5, "fatol": 1e-8}
        )
        ratios = np.exp(found.x)
        _, rss, b, inverse = self.pieces(ratios)
        sigma = np.sqrt(rss / self.df)
        return {
            "sds": np.array([sigma, *sigma * ratios]),
            "b": b,
            "se": sigma * np.sqrt(np.diag(inverse)),
        }

    def posterior(self, widest: tuple[float, float], points: int = 21) -> dict[str, Array]:
        """Means and sds of (sigma, sigma_u, sigma_v) and of b, by quadrature.

        The ratios lie on a grid of midpoints from 0 to `widest`. In the measure d sigma d ratios
        the sds sigma_u, sigma_v have the Jacobian sigma^2.
        """
        axes = [(np.arange(points) + 0.5) / points * top for top in widest]
        sigma = self.estimate()["sds"][0] * np.linspace(0.7, 1.4, 281)
        log_p, moments, b, b_var = [], [], [], []
        for ru in axes[0]:
            for rv in axes[1]:
                half, rss, beta, inverse = self.pieces(np.array([ru, rv]))
                sds = np.stack([sigma, ru * sigma, rv * sigma])
                prior = -np.log1p((sds / SCALE) ** 2).sum(axis=0)
                log_p.append(prior - half - (self.df - 2) * np.log(sigma) - rss / 2 / sigma**2)
                moments.append(sds)
                b.append(beta)
                b_var.append(np.diag(inverse))
        p = np.exp(np.array(log_p) - np.max(log_p))
        p /= p.sum()
        sds = np.array(moments)
        mean = np.einsum("gs,gks->k", p, sds)
        sd = np.sqrt(np.einsum("gs,gks->k", p, sds**2) - mean**2)
        cell = p.sum(axis=1)
        beta = np.array(b)
        b_mean = cell @ beta
        within = np.einsum("gs,gk,s->k", p, np.array(b_var), sigma**2)
        return {
            "mean": np.r_[mean, b_mean],
            "sd": np.r_[sd, np.sqrt(within + cell @ (beta - b_mean) ** 2)],
        }


def marginal(table: pd.DataFrame, group_predictor: str, member_predictor: str) -> Marginal:
    """W holds 1/n for every membership, in the order of the groups."""
    group, groups = pd.factorize(table["gid"], sort=True)
    member = pd.factorize(table["pid"])[0]
    W = np.zeros((len(groups), member.max() + 1))
    np.add.at(W, (group, member), 1 / np.bincount(group)[group])
    first = table.groupby("gid").first()
    Z = pd.get_dummies(first["cid"]).to_numpy(float)
    x = table.groupby("gid")[member_predictor].mean()
    X = np.column_stack([np.ones(len(groups)), first[group_predictor], x])
    return Marginal(first["y"].to_numpy(float), X.astype(float), W @ W.T, Z @ Z.T)


def check_posterior(
    model: Marginal, fit: rmm.Fit, names: list[str], widest: tuple[float, float]
) -> None:
    """Posterior means by quadrature and by the engine; 4.5 MCSE, six of them: 1 in 25,000."""
    exact = model.posterior(widest)
    table = fit.summary().loc[names]
    assert (table["rhat"] < 1.02).all(), table
    z = (table["mean"] - exact["mean"]) / table["mcse_mean"]
    shown = pd.DataFrame({"engine": table["mean"], "exact": exact["mean"], "z": z})
    assert (z.abs() < 4.5).all(), shown
    # An sd's own standard error is about a 1/sqrt(2 ESS) of it; at ESS 600, 3%.
    assert np.abs(table["sd"] / exact["sd"] - 1).max() < 0.15, table["sd"] / exact["sd"]
    reml = model.estimate()
    # The mode of skewed sds lies within half a posterior sd of their mean; b hardly moves.
    assert np.all(np.abs(reml["sds"] - exact["mean"][:3]) < 0.5 * exact["sd"][:3])
    assert np.all(np.abs(reml["b"] - table["mean"][3:]) < 0.15 * exact["sd"][3:])
    assert np.allclose(reml["se"], exact["sd"][3:], rtol=0.1)


@pytest.fixture(scope="module")
def simulated() -> pd.DataFrame:
    """300 groups of 1 to 5 out of 60 members, 20 nesting units; sds 0.8, 0.7, 0.4."""
    rng = np.random.default_rng(8)
    u, v = rng.normal(0, 0.7, 60), rng.normal(0, 0.4, 20)
    tables = []
    for gid in range(300):
        pid = rng.choice(60, int(rng.integers(1, 6)), replace=False)
        cid, z, x = gid % 20, rng.normal(), rng.normal(size=len(pid))
        y = 1 + 0.5 * z + np.mean(-0.4 * x + u[pid]) + v[cid] + rng.normal(0, 0.8)
        tables.append(pd.DataFrame({"gid": gid, "pid": pid, "cid": cid, "y": y, "z": z, "x": x}))
    return pd.concat(tables, ignore_index=True)


FORMULA = "y ~ 1 + {} + mm(id(pid, gid), vars({}), fn(w ~ 1/n), RE=TRUE) + hm(id=cid)"
SDS = ["sigma_l2", "sigma_l1", "sigma_l3"]


def fitted(table: pd.DataFrame, z: str, x: str) -> rmm.Fit:
    return rmm.fit(
        FORMULA.format(z, x),
        table,
        priors="rmm",
        seed=3,
        warmup=1000,
        draws=2000,
        thin=4,
        progress=False,
        monitor="structural",
        backend="jags",
    )


@pytest.mark.thorough
@pytest.mark.jags
@pytest.mark.filterwarnings("ignore::rmm.errors.ConvergenceWarning")
def test_posterior_of_simulated_data_is_the_restricted_likelihood(simulated: pd.DataFrame) -> None:
    fit = fitted(simulated, "z", "x")
    names = [*SDS, "b_l2[Intercept]", "b_l2[z]", "b_l1[x]"]
    check_posterior(marginal(simulated, "z", "x"), fit, names, (2.5, 1.8))


@pytest.mark.slow
@pytest.mark.jags
@pytest.mark.filterwarnings("ignore::rmm.errors.ConvergenceWarning")
def test_posterior_of_coalitions_is_the_restricted_likelihood() -> None:
    table = pd.read_parquet(shared_file("data", "coalgov_bml.parquet"))
    log = np.log(table.groupby("gid")["dur_wkb"].first())
    table = table.assign(y=table["gid"].map((log - log.mean()) / log.std()))
    names = [*SDS, "b_l2[Intercept]", "b_l2[majority]", "b_l1[finance]"]
    fit = fitted(table, "majority", "finance")
    check_posterior(marginal(table, "majority", "finance"), fit, names, (1.7, 1.4))


def test_restricted_likelihood_agrees_with_statsmodels(simulated: pd.DataFrame) -> None:
    """A second opinion on the yardstick: MixedLM, both matrices as variance components."""
    from statsmodels.regression.mixed_linear_model import MixedLM, VCSpec

    table = simulated[simulated["gid"] < 120]
    model = marginal(table, "z", "x")
    group, groups = pd.factorize(table["gid"], sort=True)
    member = pd.factorize(table["pid"])[0]
    W = np.zeros((len(groups), member.max() + 1))
    np.add.at(W, (group, member), 1 / np.bincount(group)[group])
    Z = pd.get_dummies(table.groupby("gid")["cid"].first()).to_numpy(float)
    columns = [[[f"{name}{k}" for k in range(m.shape[1])]] for name, m in (("u", W), ("v", Z))]
    parts = VCSpec(["u", "v"], columns, [[W], [Z]])
    other = MixedLM(model.y, model.X, np.zeros(len(groups)), exog_vc=parts)
    found = other.fit(reml=True)
    reml = model.estimate()
    theirs = np.sqrt([found.scale, *found.vcomp])
    assert np.allclose(reml["sds"], theirs, atol=2e-3), (reml["sds"], theirs)
    assert np.allclose(reml["b"], found.fe_params, atol=2e-3)
    # Its own standard errors add the cross terms of b and variances; ours are of b alone.
    information = -other.hessian(found.params_object)[0][:3, :3]
    assert np.allclose(reml["se"], np.sqrt(np.diag(np.linalg.inv(information))), rtol=5e-3)
