"""Example formulas of the help pages of R's rmm and bml, read as they stand there.

Of rmm the last commit (eee2f82), of bml the help pages up to the grammar `fn(w ~ ...)` (05d9997,
18b4c1a, eecf1a2) and those of the later grammar `w()`, `fn("sum")` (ab75777, 8e0ec85). Formulas
alone are taken; pages whose example is an `mm()`, `hm()`, `fn()`, `vars()` or `fix()` by itself
stand here within a smallest formula. A formula that several pages share is tested once.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import rmm
from rmm.errors import DataError, FormulaError, SpecificationWarning

SURV = "Surv(dur_wkb, event_wkb) ~ 1 + majority"
EQUAL = "mm(id = id(pid, gid), vars = vars(cohesion), fn = fn(w ~ 1/n), RE = TRUE)"
BOSTON = "lnCMEDV ~ NOX + CRIM + RM + DIS + AGE"
NEIGHBOURS = "NOX_nb + CRIM_nb + RM_nb + DIS_nb + AGE_nb"


def fn(weights: str) -> str:
    """A weight function of a help page, in a model."""
    return f"Y ~ 1 + mm(id = id(pid, gid), vars = vars(cohesion), fn = {weights}, RE = FALSE)"


def members(variables: str) -> str:
    """Covariates of a help page, in a model."""
    return f"Y ~ 1 + mm(id = id(pid, gid), vars = {variables}, fn = fn(w ~ 1/n), RE = FALSE)"


#: (where from, family, formula)
READ = [
    ("rmm: man/rmm.Rd, examples", "weibull",
     "Surv(govdur, earlyterm, govmaxdur) ~ 1 + mm(id(pid, gid), mmc(fdep), mmw(w ~ 1/n,"
     " constraint=1)) + majority + hm(id=cid, name=cname, type=RE, showFE=F)"),
    ("rmm: man/rmm.Rd, general formula", "gaussian",
     "Y ~ 1 + mm(id(pid, gid), mmc(fdep), mmw(w ~ 1 / n, constraint=1)) + majority"
     " + hm(id=cid, name=cname, type=FE, showFE=F)"),
    ("rmm: man/rmm.Rd, weights of Rosche", "gaussian",
     "Y ~ 1 + mm(id(pid, gid), mmc(fdep), mmw(w ~ 1/n^exp(-(b1*pseat))))"),
    ("rmm: man/rmm.Rd, constraint 2", "gaussian",
     "Y ~ 1 + mm(id(pid, gid), mmc(fdep), mmw(w ~ 1/n^exp(-(b1*pseat)), constraint=2))"),
    ("rmm: man/rmm.Rd, ar", "gaussian",
     "Y ~ 1 + mm(id(pid, gid), mmc(fdep), mmw(w ~ 1/n, ar=TRUE))"),
    ("rmm: man/summary.rmm.Rd", "weibull",
     "Surv(govdur, earlyterm, govmaxdur) ~ 1 + mm(id(pid, gid), mmc(fdep), mmw(w ~ 1/offset(n),"
     " constraint=1)) + majority + hm(id=cid, name=cname, type=RE, showFE=F)"),
    ("rmm: man/monetPlot.Rd", "weibull",
     "Surv(govdur, earlyterm) ~ 1 + mm(id(pid, gid), mmc(fdep), mmw(w ~ 1/offset(n),"
     " constraint=1)) + majority + hm(id=cid, name=cname, type=RE, showFE=F)"),
    ("rmm: tests/testthat/test-dissectFormula.R", "binomial",
     "event_wkb ~ majority + mwc + hm(id = cid, name = cname, type = RE, showFE = F)"
     " + mm(id(pid, gid), mmc(ipd), mmw(w ~ 1/offset(n), constraint = 1))"),
    ("rmm: tests/testthat/test-dissectFormula.R, no covariate, c", "weibull",
     "Surv(govdur, earlyterm) ~ 1 + mm(id(pid, gid), mmc(), mmw(w ~ 1/offset(n), c = 2))"),
    ("rmm: tests/testthat/test-dissectFormula.R, hm() alone", "weibull",
     "Surv(govdur, earlyterm) ~ 1 + hm(id = cid, name = cname)"),
    ("rmm: tests/testthat/test-dissectFormula.R, no mmc()", "weibull",
     "Surv(govdur, earlyterm) ~ 1 + mm(id(pid, gid), mmw(w ~ 1/exp(ipd), c = 2))"),
    ("rmm: tests/testthat/test-dissectFormula.R, no mmw()", "weibull",
     "Surv(govdur, earlyterm) ~ 1 + mm(id(pid, gid), mmc(ipd))"),
    ("bml: README.md", "gaussian",
     "Y ~ 1 + majority + mm(id = id(pid, gid), vars = vars(org_structure),"
     " fn = fn(w ~ 1 / n, c = TRUE), RE = TRUE)"),
    ("bml: man/bml.Rd, m1 of eecf1a2", "weibull",
     "Surv(govdur, earlyterm) ~ 1 + majority + mm(id = id(pid, gid), vars = vars(fdep),"
     ' fn = fn(w ~ 1/n, c = TRUE), RE = TRUE) + hm(id = id(cid), type = "RE")'),
    ("bml: man/bml.Rd, m2 of eecf1a2", "gaussian",
     "Y ~ 1 + majority + mm(id = id(pid, gid), vars = vars(fdep), fn = fn(w ~ 1/n), RE = FALSE)"
     " + mm(id = id(pid, gid), vars = NULL, fn = fn(w ~ 1/n), RE = TRUE)"
     ' + hm(id = id(cid), type = "RE")'),
    ("bml: man/bml.Rd, m1; summary, varDecomp, monetPlot", "weibull",
     f'{SURV} + {EQUAL} + hm(id = id(cid), type = "RE")'),
    ("bml: man/bml.Rd, m2", "weibull",
     f"{SURV} + mm(id = id(pid, gid), vars = vars(cohesion),"
     " fn = fn(w ~ cohesion == max(cohesion)), RE = FALSE)"
     " + mm(id = id(pid, gid), vars = NULL, fn = fn(w ~ 1/n), RE = TRUE)"),
    ("bml: man/bml.Rd, m3", "cox", f"{SURV} + {EQUAL}"),
    ("bml: man/bml.Rd, m4", "weibull",
     f"{SURV} + mm(id = id(pid, gid), vars = vars(cohesion),"
     " fn = fn(w ~ ilogit(b0 + b1 * pseat), c = TRUE), RE = FALSE)"),
    ("bml: man/bml.Rd, m5", "weibull",
     "Surv(dur_wkb, event_wkb) ~ 1 + fix(majority, 1) + mm(id = id(pid, gid), vars = vars(rile),"
     " fn = fn(w ~ 1/n, c = TRUE), RE = FALSE)"),
    ("bml: man/bml.Rd, m6; bmlCompare, coefPlot, mcmcDiag, tidy", "weibull", f"{SURV} + {EQUAL}"),
    ("bml: man/bml.Rd, m7", "weibull",
     f'{SURV} + {EQUAL} + hm(id = id(cid), type = "RE") + hm(id = id(year), type = "RE")'),
    ("bml: man/bml.Rd, several mm()", "gaussian",
     "Y ~ 1 + mm(id = id(pid, gid), vars = vars(rile), fn = fn(w ~ 1/n), RE = FALSE)"
     " + mm(id = id(pid, gid), vars = vars(ipd), fn = fn(w ~ pseat == max(pseat)), RE = FALSE)"
     " + mm(id = id(pid, gid), vars = NULL, fn = fn(w ~ 1/n), RE = TRUE)"),
    ("bml: man/bml.Rd, interactions", "gaussian", "Y ~ 1 + x1 * x2 + I(x1^2)"),
    ("bml: man/bml.Rd, no intercept", "gaussian", "Y ~ 0 + x1"),
    ("bml: man/bml.Rd, no intercept, -1", "gaussian", "Y ~ -1 + x1"),
    ("bml: man/bmlCompare.Rd, m2", "weibull", f"{SURV} + {EQUAL.replace('1/n', 'pseat')}"),
    ("bml: man/mm.Rd, equal weights; vars", "gaussian", members("vars(rile + ipd)")),
    ("bml: man/mm.Rd, effects only", "gaussian",
     "Y ~ 1 + mm(id = id(pid, gid), vars = NULL, fn = fn(w ~ 1/n, c = TRUE), RE = TRUE)"),
    ("bml: man/mm.Rd, estimated weights", "gaussian",
     "Y ~ 1 + mm(id = id(pid, gid), vars = vars(org_structure),"
     " fn = fn(w ~ ilogit(b0 + b1 * pseat), c = TRUE), RE = TRUE)"),
    ("bml: man/mm.Rd of 18b4c1a, linear weights", "gaussian",
     "Y ~ 1 + mm(id = id(pid, gid), vars = vars(cohesion),"
     " fn = fn(w ~ b0 + b1 * tenure, c = TRUE), RE = TRUE)"),
    ("bml: man/mm.Rd, ar", "gaussian",
     "Y ~ 1 + mm(id = id(pid, gid), vars = NULL, fn = fn(w ~ 1/n, c = TRUE), RE = TRUE,"
     " ar = TRUE)"),
    ("bml: man/mm.Rd, interaction", "gaussian", members("vars(rile * ipd)")),
    ("bml: man/mm.Rd, square", "gaussian", members("vars(rile + I(rile^2))")),
    ("bml: man/hm.Rd, covariates", "gaussian",
     'Y ~ 1 + hm(id = id(cid), vars = vars(gdp + democracy), name = cname, type = "RE")'),
    ("bml: man/hm.Rd, intercepts", "gaussian",
     'Y ~ 1 + hm(id = id(cid), vars = NULL, type = "RE")'),
    ("bml: man/hm.Rd, fixed effects", "gaussian",
     'Y ~ 1 + hm(id = id(cid), vars = NULL, name = cname, type = "FE", showFE = TRUE)'),
    ("bml: man/fn.Rd, equal", "gaussian", fn("fn(w ~ 1/n, c = TRUE)")),
    ("bml: man/fn.Rd, column", "gaussian", fn("fn(w ~ tenure, c = TRUE)")),
    ("bml: man/fn.Rd, linear", "gaussian", fn("fn(w ~ b0 + b1 * seniority, c = TRUE)")),
    ("bml: man/fn.Rd, unconstrained", "gaussian", fn("fn(w ~ importance, c = FALSE)")),
    ("bml: man/fn.Rd, aggregate and own", "gaussian",
     fn("fn(w ~ b0 + b1 * (tenure / max(tenure)), c = TRUE)")),
    ("bml: man/fn.Rd, median", "gaussian", fn("fn(w ~ tenure / median(tenure), c = TRUE)")),
    ("bml: man/fn.Rd, quantile over max", "gaussian",
     fn("fn(w ~ quantile(tenure, 0.75) / max(tenure), c = FALSE)")),
    ("bml: man/fn.Rd, generalised logistic", "gaussian",
     fn("fn(w ~ 1 / (1 + (n - 1) * exp(-(b0 + b1 * x))), c = TRUE)")),
    ("bml: man/fn.Rd, quartiles", "gaussian",
     fn("fn(w ~ quantile(tenure, 0.75) - quantile(tenure, 0.25), c = TRUE)")),
    ("bml: man/bml.Rd of eecf1a2, max(n)", "gaussian", fn("fn(w ~ max(n))")),
    ("bml: man/vars.Rd, one", "gaussian", members("vars(income)")),
    ("bml: man/vars.Rd, interaction", "gaussian", members("vars(income * education)")),
    ("bml: man/vars.Rd, interaction only", "gaussian", members("vars(income:education)")),
    ("bml: man/vars.Rd, squares", "gaussian", members("vars(income + I(income^2))")),
    ("bml: man/vars.Rd, fixed", "gaussian",
     members("vars(fix(exposure, 1.0) + income + education)")),
    ("bml: man/fix.Rd", "gaussian", members("vars(fix(population, 0.5) + income + education)")),
    ("bml: man/re.Rd, slopes", "gaussian",
     "Y ~ x1 + mm(id = id(pid, gid), vars = vars(x), fn = fn(w ~ 1/n), RE = re(1 + x))"),
    ("bml: man/re.Rd, slopes alone", "gaussian",
     "Y ~ x1 + mm(id = id(pid, gid), vars = vars(x), fn = fn(w ~ 1/n), RE = re(0 + x))"),
    ("bml: man/re.Rd, correlated", "gaussian",
     "Y ~ x1 + mm(id = id(pid, gid), vars = vars(x), RE = re(1 + x, cor = TRUE))"),
    ("bml: vignettes/faq.Rmd, offset", "gaussian", "Y ~ 1 + fix(investiture, 1) + x1 + x2"),
    ("bml: vignettes/faq.Rmd, fixed in mm()", "weibull",
     f"{SURV} + mm(id = id(pid, gid), vars = vars(fix(cohesion, 1) + finance),"
     " fn = fn(w ~ 1/n), RE = TRUE)"),
    ("bml: vignettes/fit_models.R, mod_pm_n, in fn()", "weibull",
     f"{SURV} + mwc + mm(id = id(pid, gid), vars = vars(finance),"
     " fn = fn(w ~ b1 * prime + (1 - b1) * (1/n)), RE = TRUE)"),
    ("bml: vignettes/fit_models.R, mod_pm_p, in fn()", "weibull",
     f"{SURV} + mwc + mm(id = id(pid, gid), vars = vars(finance),"
     " fn = fn(w ~ b1 * prime + (1 - b1) * pseat), RE = TRUE)"),
    ("bml: vignettes/bml.Rmd, mod2", "weibull",
     f"{SURV} + mm(id = id(pid, gid), vars = vars(finance),"
     " fn = fn(w ~ 1 / (1 + (n - 1) * exp(-b1 * pseat)), c = TRUE), RE = TRUE)"),
    ("bml: vignettes/examples.Rmd.orig, mod_lim", "gaussian",
     "smoking_w2 ~ smoking_ego + gender_ego + mm(id = id(alter, ego), vars = vars(smoking_alter),"
     " fn = fn(w ~ 1/n, c = TRUE), RE = TRUE)"),
    ("bml: vignettes/examples.Rmd.orig, mod_bf", "gaussian",
     "smoking_w2 ~ smoking_ego + gender_ego + mm(id = id(alter, ego), vars = vars(smoking_alter),"
     " fn = fn(w ~ rank == min(rank), c = TRUE), RE = TRUE)"),
    ("bml: vignettes/examples.Rmd.orig, mod_bml", "gaussian",
     f"{BOSTON} + mm(id = id(tid_nb, tid), vars = vars({NEIGHBOURS}), fn = fn(w ~ 1/n, c = TRUE),"
     " RE = TRUE)"),
    ("bml: vignettes/examples.Rmd.orig, mod_bml_w", "gaussian",
     f"{BOSTON} + mm(id = id(tid_nb, tid), vars = vars({NEIGHBOURS}),"
     " fn = fn(w ~ 1 / (1 + (n - 1) * exp(-(b0 + b1 * d_CRIM + b2 * d_AGE))), c = TRUE),"
     " RE = TRUE)"),
    ("bml: man/w.Rd; get_prior, make_jagscode", "gaussian",
     'Y ~ x1 + mm(id = id(pid, gid), vars = vars(x), w = w(~ 1/n), fn = fn("sum"))'),
    ("bml: man/w.Rd, raw weights", "gaussian",
     "Y ~ x1 + mm(id = id(pid, gid), vars = vars(x), w = w(~ tenure, scale = FALSE))"),
    ("bml: man/bml.Rd of ab75777, m2", "weibull",
     f"{SURV} + mm(id = id(pid, gid), vars = vars(cohesion),"
     ' w = w(~ ilogit(b0 + b1 * pseat), scale = TRUE), fn = fn("sum"))'),
    ("bml: man/re.Rd, ar", "gaussian",
     "Y ~ x1 + mm(id = id(pid, gid), vars = NULL, RE = re(1, ar = TRUE))"),
    ("bml: man/fe.Rd; vignettes/faq.Rmd", "gaussian", "Y ~ x1 + hm(id = id(cid), FE = fe(1))"),
    ("bml: man/hm.Rd of ab75777, intercepts", "gaussian",
     "Y ~ x1 + hm(id = id(cid), RE = re(1))"),
    ("bml: man/hm.Rd of ab75777, labels", "gaussian",
     "Y ~ x1 + hm(id = id(cid), FE = fe(1, showFE = TRUE), labels = cname)"),
]  # fmt: skip

#: Members and groups stand the other way round in these: read by what the outcome says, aloud.
SWAPPED = [
    (
        "rmm: README.md",
        "Y ~ 1 + majority + gdp + hm(id=cid, type=RE)"
        " + mm(id(gid, pid), mmc(fdep), mmw(w ~ 1/n^exp(-(pseat))))",
    ),
    (
        "rmm: vignettes/examples.Rmd, mod.rmm1",
        f"{BOSTON} + mm(id(tid, tid_nb), mmc(), mmw(w ~ 1/offset(n), constraint=1))",
    ),
    (
        "rmm: vignettes/examples.Rmd, mod.rmm2",
        f"{BOSTON} + mm(id(tid, tid_nb), mmc({NEIGHBOURS}), mmw(w ~ 1/offset(n), constraint=1))",
    ),
    (
        "rmm: vignettes/examples.Rmd, mod.rmm3",
        f"{BOSTON} + mm(id(tid, tid_nb), mmc({NEIGHBOURS}),"
        " mmw(w ~ 1/offset(n)^exp(-DIFF), constraint=1))",
    ),
]

#: (where from, formula, error, what it says); why each makes no sense here stands above it.
REFUSED = [
    # Aggregates alone are the same for all members of a group: normalised weights are 1/n,
    # whatever b1 is, and R samples b1 from its prior.
    ("bml: man/fn.Rd, aggregates alone", fn("fn(w ~ b1 * min(tenure) + (1 - b1) * mean(tenure))"),
     DataError, "No variable of the weight function .* varies within groups"),
    # `n` is computed from the rows; R's help page means a column that the user has made.
    ("rmm: man/rmm.Rd, N", "Y ~ 1 + mm(id(pid, gid), mmc(fdep), mmw(w ~ 1/N))",
     FormulaError, "no column `N`(.|\n)*Did you mean `n`"),
    # Random walks are of members; nesting units of groups have no order of their own here.
    ("bml: man/hm.Rd, ar", 'Y ~ 1 + hm(id = id(cid), vars = NULL, type = "RE", ar = TRUE)',
     FormulaError, r"hm\(\) has no argument `ar =`"),
    # bml's later grammar: features of members are written in vars().
    ("bml: vignettes/fit_models.R, mod_var",
     'Y ~ x1 + mm(id = id(pid, gid), vars = vars(x), fn = fn("var"))',
     FormulaError, r'`fn\("var"\)` cannot be used(.|\n)*vars = vars\(variance\(x\)\)'),
    ("bml: man/fn.Rd, effective number",
     'Y ~ x1 + mm(id = id(pid, gid), w = w(~ pseat), fn = fn("effn"))',
     FormulaError, r'`fn\("effn"\)` is not available'),
    # Steps of that random walk depend on the time that has passed; here on the order alone.
    ("bml: man/re.Rd, ar of a column",
     "Y ~ x1 + mm(id = id(pid, gid), vars = NULL, RE = re(1, ar = year))",
     FormulaError, r"`ar = year` cannot be used in re\(\)(.|\n)*RE = TRUE, ar = year"),
    # Slopes of nesting units, with and without pooling, are not available.
    ("bml: man/hm.Rd, slopes", "Y ~ x1 + hm(id = id(cid), RE = re(1 + x1))",
     FormulaError, r"`RE =` in hm\(\) must be TRUE or re\(1\)"),
    ("bml: man/fe.Rd, slopes", "Y ~ x1 + hm(id = id(cid), FE = fe(1 + x1))",
     FormulaError, r"`FE =` in hm\(\) must be fe\(1\)"),
    # A name of a block is no variable: cross-level interactions stand in vars(finance:majority).
    ("bml: vignettes/fit_models.R, mod_xl",
     "Y ~ x1 + Afin:majority + mm(name = Afin, id = id(pid, gid), vars = vars(finance))",
     FormulaError, "no column `Afin`"),
    # R's name of a package in front of a function.
    ("bml: vignettes/examples.Rmd.orig, bml::vars",
     "Y ~ x1 + mm(id = id(pid, gid), vars = bml::vars(x))", FormulaError, "`:` cannot be used"),
    # Errors in R too.
    ("rmm: tests/testthat/test-dissectFormula.R, no id()",
     "Y ~ 1 + mm(mmc(ipd), mmw(w ~ 1/exp(ipd), c = 2))",
     FormulaError, "`mm\\(\\)` needs id"),
    ("rmm: tests/testthat/test-dissectFormula.R, hm() without id",
     "Y ~ 1 + hm(name = cname, type = RE, showFE = F)", FormulaError, "`hm\\(\\)` needs id"),
    ("rmm: tests/testthat/test-dissectFormula.R, name without a name",
     "Y ~ 1 + hm(id = cid, name =, type = RE, showFE = F)", FormulaError, "`,` cannot be used"),
]  # fmt: skip

GROUP = [
    *("majority", "mwc", "investiture", "x1", "x2", "Y", "dur_wkb", "govdur"),
    *("lnCMEDV", "NOX", "CRIM", "RM", "DIS", "AGE", "smoking_w2", "smoking_ego", "gender_ego"),
]
MEMBER = [
    *("cohesion", "finance", "fdep", "rile", "ipd", "org_structure", "importance", "tenure"),
    *("seniority", "x", "income", "education", "exposure", "population", "smoking_alter"),
    *("DIFF", "d_CRIM", "d_AGE", *NEIGHBOURS.split(" + ")),
]


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """48 groups of three in 6 countries, with every column that an example names."""
    rng = np.random.default_rng(1)
    groups, members, size = 48, 20, 3
    group = np.repeat(np.arange(groups), size)
    member = np.concatenate([rng.choice(members, size, replace=False) for _ in range(groups)])
    data = {
        "gid": group,
        "ego": group,
        "tid": group,
        "pid": member,
        "alter": member,
        "tid_nb": member,
        "n": np.full(len(group), size),
    }
    data |= {"cid": group % 6, "cname": np.array(list("abcdef"))[group % 6], "year": group // 8}
    data |= {name: rng.normal(size=6)[group % 6] for name in ("gdp", "democracy")}
    data |= {name: rng.gamma(4.0, size=groups)[group] for name in GROUP}
    data |= {name: rng.gamma(4.0, size=len(group)) for name in MEMBER}
    data |= {"event_wkb": rng.integers(0, 2, groups)[group], "pseat": rng.uniform(size=len(group))}
    data |= {"earlyterm": data["event_wkb"], "govmaxdur": data["govdur"] + 1.0}
    data |= {"prime": np.tile([1, 0, 0], groups)}
    data |= {"rank": np.tile([1, 2, 3], groups)}
    return pd.DataFrame(data)


@pytest.mark.filterwarnings("ignore:Without mm:rmm.errors.SpecificationWarning")
@pytest.mark.parametrize(("family", "formula"), [e[1:] for e in READ], ids=[e[0] for e in READ])
def test_examples_of_r_are_read(family: str, formula: str, table: pd.DataFrame) -> None:
    """From formula to program; models of hm() alone are warned of rows that repeat others."""
    text = rmm.program(formula, family, data=table)
    assert f"{family} outcome" in text.split("\n", 1)[0]


@pytest.mark.parametrize("formula", [e[1] for e in SWAPPED], ids=[e[0] for e in SWAPPED])
def test_examples_with_swapped_ids_are_read_with_a_warning(
    formula: str, table: pd.DataFrame
) -> None:
    with pytest.warns(SpecificationWarning, match=r"was read as id\("):
        rmm.program(formula, data=table)


@pytest.mark.parametrize(
    ("formula", "error", "says"), [e[1:] for e in REFUSED], ids=[e[0] for e in REFUSED]
)
def test_examples_that_make_no_sense_are_refused(
    formula: str, error: type[Exception], says: str, table: pd.DataFrame
) -> None:
    with pytest.raises(error, match=says):
        rmm.program(formula, data=table)


def test_no_example_is_listed_twice() -> None:
    sources = [e[0] for e in (*READ, *SWAPPED, *REFUSED)]
    formulas = [e[1:3] for e in READ] + [e[1:2] for e in (*SWAPPED, *REFUSED)]
    assert len(set(sources)) == len(sources)
    assert len(set(formulas)) == len(formulas)
