"""What a family is: a row of facts and its likelihood in both program languages."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rmm.errors import BackendError
from rmm.formula.prior_syntax import Prior
from rmm.formula.terms import SigmaFormula

Array = np.ndarray[Any, Any]
Outcome = Mapping[str, Any]
Values = Mapping[str, Array]
Parts = tuple[Array, ...]


@dataclass(frozen=True)
class Parameter:
    """One parameter of a model: programs declare it, draws take their shape from it.

    Attributes
    ----------
    name : str
        One spelling everywhere: ``b_l2``, ``sigma_l1``, ``u_l1_2``, ...
    dims : tuple of str
        Names of its dimensions (keys of `Design.coords`); ``()`` for a scalar.
    support : str
        ``"real"``, ``"positive"``, ``"probability"``: 0 to 1, ``"ordered"``: real numbers that
        rise, or ``"correlation"``: -1 to 1.
    role : str
        ``"threshold"``, ``"coefficient"``, ``"weight"``, ``"feature"``, ``"sd"``, ``"shape"``,
        ``"log_sd"`` (coefficients of the log of the residual sd), ``"correlation"``, ``"effect"``,
        ``"imputation"`` (of the model of a covariate with missing values) or ``"imputed"`` (these
        values). All but effects and imputed values are structural.
    words : str
        What it is, in a sentence of a report; of families' own parameters.
    """

    name: str
    dims: tuple[str, ...]
    support: str
    role: str
    words: str = ""

    @property
    def structural(self) -> bool:
        """Whether the parameter belongs to the model rather than to one unit."""
        return self.role not in ("effect", "imputed")


@dataclass(frozen=True)
class Widths:
    """Scales of the weakly informative priors, in units of the linear predictor.

    Attributes
    ----------
    intercept : float
        Of the normal prior of the intercept, the predictors at their centres.
    slope : float
        Of the normal prior of a coefficient, per standard deviation of its predictor.
    sd : float
        Of the half-normal prior of the standard deviation of what random effects add to the
        linear predictor.
    """

    intercept: float
    slope: float
    sd: float


@dataclass(frozen=True)
class Domain:
    """The numbers that a plain outcome can be.

    Attributes
    ----------
    holds : callable
        ``values -> (J,) bool``.
    words : str
        After "must": ``"be positive"``.
    advice : callable
        ``(label, values) -> str`` what to do about the values that are not, or "".
    """

    holds: Callable[[Array], Array]
    words: str
    advice: Callable[[str, Array], str]


def _no_priors(outcome: Outcome) -> dict[str, Prior]:
    return {}


def _unmoved(outcome: Outcome) -> float:
    return 0.0


def _no_inits(outcome: Outcome) -> dict[str, Any]:
    return {}


@dataclass(frozen=True, eq=False)
class Curvature:
    """The log likelihood at S linear predictors, and its derivatives in them.

    Attributes
    ----------
    value : (S,) array
        Normalised, all groups together.
    gradient : (S, J) array
    weight : (S, J) or (S, 1) array
        Minus the Hessian is the diagonal matrix of these less `shared`. If the likelihood is not
        log-concave: 0 where they would be negative, or their expectations.
    shared : callable or None
        ``(s, rows) -> (K, P)``: for the (J, P) rows B of predictor s a matrix C such that minus
        the Hessian in B's coefficients is B' diag(weight) B - C'C. None: there is no such part.
        An approximation for a baseline of many steps, with an exact diagonal and few rows of C.
    """

    value: Array
    gradient: Array
    weight: Array
    shared: Callable[[int, Array], Array] | None = None


@dataclass(frozen=True, eq=False)
class KernelOutcome:
    """The outcome as the compiled kernels of `rmm.backends.laplace` read it.

    Attributes
    ----------
    likelihood : int
        Which log likelihood: its place in `Likelihood` of kernels.cpp.
    y : (J,) array
        Outcome, choice or event.
    known : (J,) array
        Trials; of normal outcomes how often each counts, if not once; log of the duration; share
        of its last step in which a group was at risk.
    constant : float
        Of the log likelihood.
    strata : (J,) int array or None
        Stratum of each group from 0; the last step in which it was at risk.
    shape : (steps,) array or None
        Shapes of the gamma distributions of a baseline's steps, and their prior `rate`.
    merged : (merged steps + 1,) int array or None
        First step of each group of steps that are merged for the curvature.
    entry : (J,) array or None
        Of groups that enter late: log of the entry's share of the duration; share of the step of
        the entry that was over. Of intervals: log(upper / lower).
    entered : (J,) int array or None
        Step of the entry.
    categories : int
        Number of levels of an ordered outcome.
    sd_columns : (J, K) array or None
        What the coefficients of the log of a normal outcome's sd multiply.
    """

    likelihood: int
    y: Array
    known: Array | None = None
    constant: float = 0.0
    strata: Array | None = None
    shape: Array | None = None
    rate: float = 0.0
    merged: Array | None = None
    entry: Array | None = None
    entered: Array | None = None
    categories: int = 0
    sd_columns: Array | None = None


@dataclass(frozen=True)
class Family:
    """One row of the registry `rmm.families.FAMILIES`.

    In the functions below S is a number of draws, J of groups; `eta` is the (S, J) linear
    predictor and `values` maps the family's own parameters to (S,) draws, thresholds to (S, K - 1).

    Attributes
    ----------
    name : str
    link : str
        The only link function, which users may state: ``fit(..., link="log")``. "": they may not.
        Other links of a family are families of their own: ``OTHER_LINKS`` in `rmm.families`.
    outcome_kinds : tuple of str
        Kinds of `rmm.formula.terms.Outcome` that it takes.
    domain : Domain or None
        The numbers that a plain outcome can be; None: `read_outcome` looks itself.
    intercept : bool
        Whether the linear predictor may have an intercept.
    parameters : tuple of Parameter
        Own parameters, such as ``sigma_l2``.
    read_outcome : callable
        ``(label, parts, strata) -> dict``: what programs and the functions below need to know
        of the outcome. `parts` are arrays over the J groups, `strata` their (J,) labels or None.
        Raises `DataError`.
    observed : tuple of str
        Entries of that dict which are (J,) arrays and go to ``observed_data``.
    measure : str
        ``"density"`` of a number, or a probability of ``"counts"`` or ``"trials"``: likelihoods of
        the same outcomes with the same measure can be compared. "": only within the family.
    example : mapping
        A smallest outcome: programs without data take the families of their priors from it.
    scale : callable
        ``(outcome) -> (location, scale)`` that inits start from, and the location of the
        intercept's weakly informative prior.
    widths : callable
        ``(outcome) -> Widths`` of the weakly informative priors.
    log_likelihood : callable
        ``(eta, values, outcome) -> (S, units)``, normalised; units are groups, or strata.
    mean : callable
        ``(eta, values, outcome) -> (S, J)`` expected outcome.
    draw : callable
        ``(eta, values, outcome, rng) -> (S, J)`` outcomes of the posterior predictive
        distribution, not censored.
    new_outcome : callable or None
        ``(outcome, parts, strata, J) -> dict``: what `mean` and `draw` need of J new groups.
        `outcome` is the fit's (baselines, cut points), `parts` are the new groups' outcome
        columns or None where the new table lacks them, `strata` (J,) codes or None. None: the
        entries that are not arrays over the groups.
    some_groups : callable or None
        ``(outcome, groups) -> dict``: the outcome of some groups (sorted int array), baselines
        and cut points as they were; for refits without a unit. None will do where all entries are
        `observed`.
    baseline : callable or None
        ``(eta, values, outcome, rng) -> array``: what outcomes of new groups share with those of
        the fit, from the (S, J) predictor of the fit's groups; `draw` finds it as
        ``outcome["baseline"]``.
    coords : callable
        ``(outcome) -> dict``: labels of the dimensions of the family's own parameters.
    thresholds : callable or None
        ``(outcome) -> (K - 1,)`` values of its thresholds, without predictors, that chains start
        about; None for families without.
    probabilities : callable or None
        ``(eta, values, outcome) -> (S, J, K)`` probabilities of the levels of the outcome.
    survival : callable or None
        ``(eta, values, outcome, time) -> (S, J)`` probabilities of a duration beyond `time`;
        `outcome` is the fit's, with the entry ``"baseline"`` where the family has one. Raises
        `BackendError` for times that the data say nothing of. None: the outcome is no duration.
    cumulative_hazard : callable or None
        ``(eta, values, outcome, times) -> (S, J, T)`` cumulative hazards from 0 to T times;
        `outcome` as for `survival`. After the end of a baseline it stays what it was.
    median : callable or None
        ``(eta, values) -> (S, J)`` median outcome.
    linear_mean : bool
        Whether the expected outcome is the linear predictor.
    log_scale : bool
        Whether the outcome is positive and the linear predictor on the scale of its log: figures
        have logarithmic axes.
    residual_variance : callable
        ``(values, outcome) -> (S,)`` on the scale of the linear predictor; a scalar where it is
        known.
    normal_sd : str
        Name of the sd of an outcome that is normal given the linear predictor; "" otherwise, and
        where each group has its own.
    sds : callable or None
        ``(values, outcome) -> (S, 1) or (S, J)``: sds of an outcome that is normal given the linear
        predictor. None: it is not normal.
    sigma : SigmaFormula or None
        The formula of the log of the residual sd, where groups differ in it.
    normal_y : str
        The entry of the outcome, and the name in programs, of the numbers that are normal.
    log_jacobian : callable
        ``(outcome) -> (J,)`` or 0: log of the derivative of `normal_y` in the user's outcome.
    working : callable or None
        ``(outcome) -> (response, weight)``, two (J,) arrays: a normal approximation of the
        likelihood of each group's linear predictor, mean and precision. Stan programs sample
        effects about what it says of them; the posterior does not depend on it.
    curvature : callable or None
        ``(eta, values, outcome) -> Curvature``. None: backend ``"laplace"`` refuses the family.
    kernel : callable or None
        ``(outcome) -> KernelOutcome``; without it backend ``"laplace"`` computes in NumPy.
    stan_functions, stan_data, stan_transformed_data, stan_model : str
        Lines of program text. They may use ``eta`` and the family's data and parameters.
    stan_density : str
        Stan's expression of the log density of group j, up to a constant, for weighted likelihoods;
        "" where there is none.
    observation_weights : str
        Column of weights with which the likelihood of each group counts; "" without.
    jags_model : str
        JAGS lines inside ``for (j in 1:J)``. Obligatory: for a likelihood that JAGS does not have,
        see docs/developing.md.
    jags_outside : str
        JAGS lines outside of it, such as a baseline.
    jags_block : bool
        Whether JAGS's glm module has a block for this outcome.
    jags_standard_effects : bool
        Whether JAGS programs write effects as their sd times standard normals. Where the glm
        module augments the outcome to normals (Poisson counts, logit), its sampler for the
        precisions of effects has another posterior than the model's, with smaller sds. Without
        a block (choices), sds mix better so.
    jags_initial : callable
        ``(outcome) -> dict`` initial values of nodes that are no parameters of the model.
    priors, classic_priors : callable
        ``(outcome) -> dict`` priors of the own parameters, in the weakly informative set and in
        that of R's rmm; those not named are half-normal of ``widths.sd``, or half-Cauchy(25).
    prior_outcomes : bool
        Whether priors alone say enough to draw outcomes; not where a baseline is left to the data.
    unit : str
        ``"group"`` or ``"stratum"``: the unit of the log likelihood.
    needs_strata, takes_strata : bool
        Whether `strata()` must be in the formula, and whether it may be.
    ordered : bool
        Whether the outcome has ordered levels: `read_outcome` takes their codes and labels.
    binary : bool
        Whether a plain outcome is 0 or 1, so that two labels can be read as these.
    check : str
        Kind of posterior predictive check: a key of ``CHECKS`` in
        `rmm.posterior.plots.predictive_check`.
    in_words : tuple of str
        The outcome in a sentence, and what changes with the linear predictor: for reports.
    like_residual : str
        Warning of effects that are one per group, ``{which}``, where the outcome's own variation
        looks like them; "" where it does not, or is `normal_sd`.
    separated : str
        What of the outcome ``{label}`` is separated where the likelihood has no maximum; "" where
        this is not looked at.
    separation : str
        In which directions it has none: a key of ``CONES`` in `rmm.design.checks.separation`.
    options : mapping
        What the user chose, such as ``{"intervals": 10}``.
    option_names : tuple of str
        What the user may choose.
    for_outcome : callable or None
        ``(kind, strata) -> Family`` with the program text of a kind of outcome, and of a formula
        with `strata()`, where texts differ.
    configure : callable or None
        ``(**options) -> Family``; None where the family has no options.
    """

    name: str
    outcome_kinds: tuple[str, ...]
    intercept: bool
    parameters: tuple[Parameter, ...]
    read_outcome: Callable[[str, tuple[Array, ...], Array | None], dict[str, Any]]
    scale: Callable[[Outcome], tuple[float, float]]
    widths: Callable[[Outcome], Widths]
    log_likelihood: Callable[[Array, Values, Outcome], Array]
    mean: Callable[[Array, Values, Outcome], Array]
    draw: Callable[[Array, Values, Outcome, np.random.Generator], Array]
    residual_variance: Callable[[Values, Outcome], Array | float]
    stan_data: str
    stan_model: str
    jags_model: str
    link: str = ""
    domain: Domain | None = None
    normal_sd: str = ""
    sds: Callable[[Values, Outcome], Array] | None = None
    sigma: SigmaFormula | None = None
    normal_y: str = "y"
    log_jacobian: Callable[[Outcome], Array | float] = _unmoved
    working: Callable[[Outcome], tuple[Array, Array]] | None = None
    curvature: Callable[[Array, Values, Outcome], Curvature] | None = None
    kernel: Callable[[Outcome], KernelOutcome] | None = None
    stan_functions: str = ""
    stan_transformed_data: str = ""
    stan_density: str = ""
    observation_weights: str = ""
    jags_outside: str = ""
    jags_block: bool = True
    jags_standard_effects: bool = False
    jags_initial: Callable[[Outcome], dict[str, Any]] = _no_inits
    priors: Callable[[Outcome], dict[str, Prior]] = _no_priors
    classic_priors: Callable[[Outcome], dict[str, Prior]] = _no_priors
    new_outcome: Callable[[Outcome, Parts | None, Array | None, int], dict[str, Any]] | None = None
    some_groups: Callable[[Outcome, Array], dict[str, Any]] | None = None
    baseline: Callable[[Array, Values, Outcome, np.random.Generator], Array] | None = None
    coords: Callable[[Outcome], Mapping[str, tuple[str, ...]]] = _no_inits
    thresholds: Callable[[Outcome], Array] | None = None
    probabilities: Callable[[Array, Values, Outcome], Array] | None = None
    survival: Callable[[Array, Values, Outcome, float], Array] | None = None
    cumulative_hazard: Callable[[Array, Values, Outcome, Array], Array] | None = None
    median: Callable[[Array, Values], Array] | None = None
    linear_mean: bool = False
    log_scale: bool = False
    observed: tuple[str, ...] = ("y",)
    measure: str = ""
    example: Outcome = field(default_factory=lambda: {"y": np.array([0.0, 1.0])})
    prior_outcomes: bool = True
    unit: str = "group"
    needs_strata: bool = False
    takes_strata: bool = False
    ordered: bool = False
    binary: bool = False
    check: str = "densities"
    in_words: tuple[str, str] = ("an outcome", "the linear predictor changes")
    like_residual: str = ""
    separated: str = ""
    separation: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    option_names: tuple[str, ...] = ()
    for_outcome: Callable[..., Family] | None = None
    configure: Callable[..., Family] | None = None

    def program_data(self, outcome: Outcome, language: str) -> dict[str, Any]:
        """The entries of the outcome that the program text of a language names.

        Parameters
        ----------
        outcome : mapping
            As `read_outcome` gives it.
        language : {"jags", "stan"}

        Returns
        -------
        dict
        """
        texts = {
            "stan": (self.stan_data, self.stan_transformed_data, self.stan_model),
            "jags": (self.jags_model, self.jags_outside),
        }[language]
        code = re.sub(r"(//|#).*", "", "\n".join(texts))
        words = set(re.findall(r"[A-Za-z]\w*", code))
        words |= {"center_sigma"} if self.sigma is not None else set()  # of what is reported
        return {name: value for name, value in outcome.items() if name in words}

    def some_values(self, outcome: Outcome) -> dict[str, Array]:
        """One draw of the own parameters at which outcomes are possible.

        Parameters
        ----------
        outcome : mapping

        Returns
        -------
        dict
            Parameter -> (1,) array, of thresholds (1, K - 1), of `b_sigma` (1, K).
        """
        found = {
            p.name: np.full(1, 0.5 if p.support == "probability" else 1.0) for p in self.parameters
        }
        if self.thresholds is not None:
            found |= {p.name: self.thresholds(outcome)[None] for p in self.parameters if p.dims}
        logs = [p.name for p in self.parameters if p.role == "log_sd"]
        return found | {name: np.zeros((1, outcome["K_sigma"])) for name in logs}

    def outcome_of_new(
        self, outcome: Outcome, parts: Parts | None, strata: Array | None, count: int
    ) -> dict[str, Any]:
        """`new_outcome`, or its default.

        Parameters
        ----------
        outcome : mapping
            The fit's.
        parts : tuple of arrays or None
            The new groups' outcome columns.
        strata : (J,) array or None
        count : int
            J, the number of new groups.

        Returns
        -------
        dict
        """
        if self.new_outcome is not None:
            return self.new_outcome(outcome, parts, strata, count)
        known = np.shape(outcome[self.observed[0]])
        return {name: value for name, value in outcome.items() if np.shape(value)[:1] != known}

    def outcome_of_some(self, outcome: Outcome, groups: Array) -> dict[str, Any]:
        """`some_groups`, or its default.

        Parameters
        ----------
        outcome : mapping
        groups : (K,) int array
            Sorted numbers of the groups that stay.

        Returns
        -------
        dict

        Raises
        ------
        BackendError
            If the family does not say what is left of its outcome.
        """
        if self.some_groups is not None:
            return self.some_groups(outcome, groups)
        derived = [name for name in outcome if name not in self.observed]
        if derived:
            raise BackendError(
                f"loo(refit=True) is not available with family {self.name!r}, because its "
                f"`{derived[0]}` depends on all units. Use loo() without refit."
            )
        return {k: v[groups] if k in self.observed else v for k, v in outcome.items()}
