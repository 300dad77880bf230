"""What readers can choose in the page: methods and levels of factors, as CSS classes.

Rows of tables and parts of figures carry a class per method and level that they belong to; a
class on the page's body hides all of one kind. So the choice costs one class, whatever the size
of the study, and without JavaScript everything is shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rmm.study.report.data.format_numbers import compact
from rmm.study.report.data.labels import readable

#: A factor with more levels is no choice: nobody ticks so many boxes.
MOST_CHOICES = 60


@dataclass(frozen=True)
class Choice:
    """One box to tick: `token` is its class, `key` its name in the address of the page."""

    token: str
    key: str
    label: str


@dataclass(frozen=True)
class Group:
    """Choices that belong together: the methods, or the levels of one factor."""

    name: str
    choices: tuple[Choice, ...]
    is_methods: bool = False


@dataclass(frozen=True)
class Filters:
    """Classes of methods and of factor levels.

    Attributes
    ----------
    methods : sequence of str
        Names of methods.
    levels : mapping
        Factor -> its levels, in the order of the study file.
    """

    methods: Sequence[str]
    levels: Mapping[str, Sequence[Any]]

    def method(self, name: str) -> str:
        """The class of a method."""
        return f"m{self.methods.index(name)}"

    def level(self, factor: str, value: Any) -> str:
        """The class of a factor level; levels are told apart by what is shown of them."""
        return self._tokens[factor][self.place(factor, value)]

    def place(self, factor: str, value: Any) -> int:
        """The number of a factor level, from 0."""
        return self._places[factor][compact(value)]

    @cached_property
    def _places(self) -> dict[str, dict[str, int]]:
        """Factor -> what is shown of a level -> its first number."""
        return {
            factor: {compact(v): i for i, v in reversed(list(enumerate(values)))}
            for factor, values in self.levels.items()
        }

    @cached_property
    def _tokens(self) -> dict[str, list[str]]:
        return {
            factor: [f"f{number}-{i}" for i in range(len(values))]
            for number, (factor, values) in enumerate(self.levels.items())
        }

    @cached_property
    def chosen_by(self) -> tuple[str, ...]:
        """Factors whose levels can be chosen."""
        return tuple(f for f, values in self.levels.items() if len(values) <= MOST_CHOICES)

    def scenario(self, row: Mapping[Any, Any]) -> tuple[str, ...]:
        """Classes of a scenario: a row of the scenarios' table."""
        return tuple(self.level(factor, row[factor]) for factor in self.chosen_by)

    @property
    def groups(self) -> tuple[Group, ...]:
        """All there is to choose; what has one level only is no choice."""
        made = [
            Group("method", tuple(_choice(self.method(m), "method", m) for m in self.methods), True)
        ]
        for factor in self.chosen_by:
            values = self.levels[factor]
            choices = (_choice(self.level(factor, v), factor, compact(v)) for v in values)
            made.append(Group(readable(factor), tuple(choices)))
        return tuple(group for group in made if len(group.choices) > 1)

    @property
    def css(self) -> str:
        """The rules by which a class on the body hides what carries its counterpart."""
        tokens = [choice.token for group in self.groups for choice in group.choices]
        return "\n".join(f".off-{t} .{t}{{display:none}}" for t in tokens)


def _choice(token: str, group: str, label: str) -> Choice:
    return Choice(token, f"{group}:{label}", label)
