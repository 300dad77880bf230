"""What a coefficient of a member covariate is about: all members of a group, or one of them.

Where weights sum to 1, a coefficient b is the change of the outcome if the covariate grows by one
in all members. A regression on one row per membership estimates the change per member: if the
covariate is independent within groups, and of the weights, b G / M for G groups with M
memberships, because that is the mean weight of a membership (b/n for groups of n).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rmm.formula.weights.weight_function import WeightFunction

#: Change of the outcome per unit of the (weighted) mean of the members.
MEAN = "mean of the members"
#: Change of the outcome per unit of the sum of the members, or of one member.
MEMBER = "one member"
#: Value of a method's `rescale`: estimates per member times M / G.
RESCALED = "members"

_CONSTANT = {"1/n": MEAN, "1": MEMBER}


def of_weights(weight: WeightFunction, config: Mapping[str, Any]) -> str:
    """A multiple-membership model: with c = FALSE the unit is the weight function's own."""
    if weight.constraint != "none":
        return MEAN
    text = weight.text.replace(" ", "")
    return _CONSTANT.get(text, f"weights {text}, c = FALSE")


def of_means(weight: WeightFunction, config: Mapping[str, Any]) -> str:
    """One row per group with means of the members."""
    return MEAN


def of_summary(weight: WeightFunction, config: Mapping[str, Any]) -> str:
    """One row per group: a coefficient of the mean, the sum, the smallest or largest value."""
    extremes = {"min": "the smallest member", "max": "the largest member"}
    scale = {"mean": MEAN, "sum": MEMBER, **extremes}[config["summary"]]
    return MEAN if config.get("rescale") == RESCALED else scale


def of_members(weight: WeightFunction, config: Mapping[str, Any]) -> str:
    """One row per membership."""
    return MEAN if config.get("rescale") == RESCALED else MEMBER
