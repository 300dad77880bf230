"""What a formula consists of: frozen descriptions, no behaviour that needs data."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from rmm.formula.column_bases import Basis, Smooth
from rmm.formula.weights.weight_function import Node, WeightFunction, leaf_columns


@dataclass(frozen=True)
class Atom:
    """One factor of a term: a column, an expression of columns, or a basis of one.

    Attributes
    ----------
    label : str
        As shown to users: ``"finance"`` or ``"I(x^2)"``.
    expression : Node
        Parsed expression (a `Column` node for a plain column). It has no parameters.
    basis : Basis or None
        What makes several columns of it: `factor(x)`, `poly(x, 2)`.
    """

    label: str
    expression: Node
    basis: Basis | None = None


@dataclass(frozen=True)
class Term:
    """A product of atoms: a main effect (one atom) or an interaction (several)."""

    atoms: tuple[Atom, ...]
    position: int = field(default=0, compare=False)

    @property
    def label(self) -> str:
        """``"a"`` or ``"a:b"``."""
        return ":".join(atom.label for atom in self.atoms)


@dataclass(frozen=True)
class FixedTerm:
    """`fix(x, value)`: a term whose coefficient is held at `value`."""

    term: Term
    value: float


@dataclass(frozen=True)
class FeatureTerm:
    """A feature of a group's members, such as `variance(x)`; see `rmm.formula.features`.

    Attributes
    ----------
    function : str
        A key of `rmm.formula.features.FEATURES`.
    atom : Atom or None
        The variable; None for a feature of the weights themselves.
    value : float or None
        Its number, if it is given.
    parameter : str or None
        What its number is called if it is estimated, hence an element of `b_f`.
    """

    function: str
    atom: Atom | None = None
    value: float | None = None
    parameter: str | None = None
    position: int = field(default=0, compare=False)

    @property
    def label(self) -> str:
        """``"variance(x)"``, ``"herfindahl()"`` or ``"threshold(x, 0.5)"``."""
        inside = [] if self.atom is None else [self.atom.label]
        inside += [] if self.value is None else [format(self.value, ".15g")]
        return f"{self.function}({', '.join(inside)})"

    @property
    def weighted(self) -> bool:
        """Whether the weights have a part in it."""
        return self.atom is None or self.function not in ("herfindahl", "entropy")


@dataclass(frozen=True)
class Series:
    """`ar = ar1(time)`: effects of a member at its times are an AR(1) process.

    Attributes
    ----------
    time : str or None
        Time column; None for the order of the group ids, `ar1()`.
    """

    time: str | None = None


@dataclass(frozen=True)
class MemberBlock:
    """One `mm()` block.

    Attributes
    ----------
    member, group : str
        Id columns **as written**; `rmm.design.design` may find them swapped.
    terms, fixed : tuple
        Member covariates, summed with the block's weights.
    features : tuple of FeatureTerm
        Further properties of a group's members.
    weight : WeightFunction
    random : bool
        Whether members have random effects (intercepts).
    slopes : tuple of Term
        Covariates whose slopes vary over members, `RE = re(1 + x)`.
    correlated : bool
        Whether a member's intercept and slopes are correlated, `re(1 + x, cor = TRUE)`.
    autoregressive : str or bool
        False; True for a random walk in group order; a column name for a time column.
    series : Series or None
        An AR(1) process in time, `ar = ar1(time)`.
    covariance : str or None
        Name of the known covariance matrix of the members' effects, `cov = A`.
    roles : str or None
        Name that blocks share whose effects of a member are correlated, `cor = NAME`.
    name : str or None
        The user's `name=`; else the block's number is used where there are several.
    smooth : Atom or None
        `s(x)`, whose functions are the "members" of a block of its own: every group has all of
        them, with their values at its x as known weights. No such block is in a `Formula`.
    """

    member: str
    group: str
    terms: tuple[Term, ...]
    fixed: tuple[FixedTerm, ...]
    weight: WeightFunction
    random: bool
    autoregressive: str | bool = False
    series: Series | None = None
    slopes: tuple[Term, ...] = ()
    correlated: bool = False
    features: tuple[FeatureTerm, ...] = ()
    covariance: str | None = None
    roles: str | None = None
    name: str | None = None
    smooth: Atom | None = None
    position: int = field(default=0, compare=False)

    @property
    def time_column(self) -> str | None:
        """Column with the times of random walks or of an AR(1) process."""
        if self.series is not None:
            return self.series.time
        return self.autoregressive if isinstance(self.autoregressive, str) else None

    @property
    def times_known(self) -> bool:
        """Whether a member's effects belong to times, so that other groups do not change them."""
        return self.series is not None and self.series.time is not None


@dataclass(frozen=True)
class NestingBlock:
    """One `hm()` block.

    Attributes
    ----------
    unit : str
        Id column of the nesting unit.
    effect : str
        ``"RE"`` or ``"FE"``.
    label_column : str or None
        Column with readable names of the units (`name=`).
    show : bool
        `showFE`: whether fixed effects are reported.
    terms : tuple of Term, or None
        Explicit `vars=`; None means that level-3 predictors are found from the data.
    """

    unit: str
    effect: str = "RE"
    label_column: str | None = None
    show: bool = False
    terms: tuple[Term, ...] | None = None
    fixed: tuple[FixedTerm, ...] = ()
    name: str | None = None
    position: int = field(default=0, compare=False)


#: Kind of outcome -> the function that users write.
_WRITTEN = {"surv": "Surv", "spell": "Surv", "interval": "Surv", "cbind": "cbind"}
#: Kinds of outcome that are durations.
DURATIONS = ("surv", "spell", "interval")
#: `type =` of `Surv()` where an event is known to lie between two times, as in R's survival.
INTERVAL = "interval2"


@dataclass(frozen=True)
class Outcome:
    """Left-hand side.

    Attributes
    ----------
    kind : str
        ``"plain"`` (one expression), ``"surv"`` (`Surv(time, event[, upper])`), ``"spell"``
        (`Surv(stop, event, entry = start)`: delayed entry), ``"interval"``
        (`Surv(lower, upper, type = "interval2")`: both parts are columns) or ``"cbind"``
        (`cbind(successes, failures)`).
    parts : tuple of Atom
        Of a spell: stop, event, entry and, where it is given, the upper limit.
    reading : str
        How the meaning of the third column of `Surv(a, b, c)` is known: ``"written"``, ``"open"``
        until the data are there, then ``"values"``.
    """

    kind: str
    parts: tuple[Atom, ...]
    reading: str = "written"

    @property
    def open_columns(self) -> tuple[str, ...]:
        """Lower and upper column of an interval: missing or infinite means that it is open."""
        return tuple(part.label for part in self.parts) if self.kind == "interval" else ()

    @property
    def label(self) -> str:
        """Readable name of the outcome."""
        labels = [part.label for part in self.parts]
        if self.kind == "spell":
            labels[2:] = [
                f"{n} = {x}" for n, x in zip(("entry", "upper"), labels[2:], strict=False)
            ]
        if self.kind == "interval":
            labels.append(f'type = "{INTERVAL}"')
        inside = ", ".join(labels)
        return inside if self.kind == "plain" else f"{_WRITTEN[self.kind]}({inside})"


#: Group size in the formula of the residual standard deviation, as in weight functions.
SIZE_NAME = "n"


@dataclass(frozen=True)
class SigmaFormula:
    """`sigma = "~ 1 + z"`: terms of the log of the residual standard deviation, and an intercept.

    Attributes
    ----------
    text : str
        As the user wrote it.
    terms : tuple of Term
        Of group-level columns; a column `n` is the number of members of a group.
    """

    text: str
    terms: tuple[Term, ...]

    @cached_property
    def _leaves(self) -> tuple[str, ...]:
        atoms = (atom for term in self.terms for atom in term.atoms)
        return tuple(c for atom in atoms for c in leaf_columns(atom.expression))

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the table that it uses; `n` is counted, not read."""
        return tuple(dict.fromkeys(c for c in self._leaves if c != SIZE_NAME))

    @property
    def uses_size(self) -> bool:
        """Whether it uses the group size `n`."""
        return SIZE_NAME in self._leaves


@dataclass(frozen=True)
class Formula:
    """A whole formula, parsed; `terms` and `fixed` are those outside `mm()` and `hm()`.

    `strata` are columns, whose combinations are the strata; `strata_at` is their place in `text`.
    `sigma` is the formula of the residual standard deviation, if that differs between groups;
    `observation_weights` the column of weights of the groups' likelihoods.
    """

    text: str
    outcome: Outcome
    intercept: bool
    terms: tuple[Term, ...]
    fixed: tuple[FixedTerm, ...]
    members: tuple[MemberBlock, ...]
    nestings: tuple[NestingBlock, ...]
    strata: tuple[str, ...] = ()
    strata_at: int = field(default=0, compare=False)
    offset: tuple[Atom, ...] = ()
    sigma: SigmaFormula | None = None
    observation_weights: str = ""

    @property
    def smooths(self) -> tuple[Atom, ...]:
        """`s(x)` among the terms: smooth functions of group-level columns."""
        atoms = (atom for term in self.terms for atom in term.atoms)
        return tuple(atom for atom in atoms if isinstance(atom.basis, Smooth))

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """Member id columns, one per `mm()` block, if there are several kinds of members; else ().

        The kinds share one id column, the group's, whichever way round `id()` is written.
        """
        pairs = [frozenset((block.member, block.group)) for block in self.members]
        shared = frozenset[str]().union(*pairs).intersection(*pairs)
        if len(set(pairs)) < 2 or len(shared) != 1 or any(len(pair) != 2 for pair in pairs):
            return ()
        return tuple(next(iter(pair - shared)) for pair in pairs)
