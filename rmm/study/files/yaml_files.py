"""Reading YAML of unknown origin: plain data, of a size that can be checked.

Safe loading alone makes no objects, but it lets a file of ten lines become a billion values
(aliases of aliases), exhausts the stack (nesting), and meets values that are no plain data
(dates, NaN, numbers of thousands of digits). Nothing of this is needed in a study.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

#: A study file has some kilobytes. Aliases count as often as they are used.
MOST_BYTES, MOST_VALUES, MOST_DEPTH = 200_000, 20_000, 40
#: Digits of whole numbers: those of 64 bits, and seeds of 128.
_MOST_DIGITS = 40
_TOO_DEEP = f"The values are nested too deeply: at most {MOST_DEPTH} levels are allowed."
_NO_TAGS = "Write plain text, numbers, lists and keys, without tags (`!!...`)."
_NOT_OF_TYPE = "is not a value of type"
_MERGE, _INTEGER = "tag:yaml.org,2002:merge", "tag:yaml.org,2002:int"


class Problem(Exception):
    """What is wrong with a file: `where`, a sentence, and `advice`."""

    def __init__(self, where: str, problem: str, advice: str = "") -> None:
        super().__init__(problem)
        self.where, self.advice = where, advice


def load_yaml(path: Path) -> tuple[Any, dict[str, int]]:
    """The value of a YAML file, and the line of each key: ``{"methods[1].backend": 12}``.

    Values are mappings, lists, text, finite numbers, true, false and null.

    Raises
    ------
    Problem
        If it is no YAML; too large, or too deeply nested; if a key stands twice in a mapping
        (YAML takes the last without a word); for values of other types.
    """
    # Late: the extra `study` may be absent.
    import yaml

    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise Problem("", f"The file is too long: at most {MOST_BYTES:,} bytes are allowed.")
        text = data.decode("utf-8")
        loader = _loader()(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None, {}
            _check_size(node)
            value, lines = loader.construct_document(node), dict(_lines(node, ""))
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        found = f"This is not valid YAML: {error.problem}."
        raise Problem(_place(error.problem_mark), found) from error
    except UnicodeDecodeError as error:
        raise Problem("", "The file is not UTF-8 text.", "Save it as UTF-8.") from error
    except yaml.YAMLError as error:
        raise Problem("", f"The file is not valid YAML: {error}") from error
    _check_values(value, "")
    return value, lines


def _lines(node: Any, key: str) -> Iterator[tuple[str, int]]:
    """Key path and line of all that stands in a node; of what is merged in, the anchor's."""
    if not isinstance(node.value, list):
        return
    for index, part in enumerate(node.value):
        if not isinstance(part, tuple):
            path, place, value = f"{key}[{index}]", part, part
        elif part[0].tag == _MERGE:
            yield from _lines(part[1], key)
            continue
        else:
            path = f"{key}.{part[0].value}" if key else str(part[0].value)
            place, value = part
        yield path, place.start_mark.line + 1
        yield from _lines(value, path)


def _tag(node: Any) -> str:
    """A tag as it is written in a file: ``!!python/name:os.getcwd``."""
    return str(node.tag).replace("tag:yaml.org,2002:", "!!")


def _place(mark: Any) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""


def _check_size(root: Any) -> None:
    """Values and depth with each alias written out; a value may not hold itself."""
    known: dict[int, int] = {}
    above: list[int] = []

    def size(node: Any) -> int:
        if id(node) in known:
            return known[id(node)]
        where = _place(node.start_mark)
        if id(node) in above:
            raise Problem(where, "An alias (`*name`) here refers to a value that contains it.")
        if len(above) > MOST_DEPTH:
            raise Problem(where, f"{_TOO_DEEP} An alias (`*name`) counts as its value.")
        above.append(id(node))
        count = 1 + sum(size(part) for part in _parts(node))
        above.pop()
        if count > MOST_VALUES:
            found = f"The file has {count:,} values, if each alias (`*name`) is written out."
            raise Problem(where, found, f"At most {MOST_VALUES:,} are allowed.")
        known[id(node)] = count
        return count

    size(root)


def _parts(node: Any) -> Iterator[Any]:
    if isinstance(node.value, list):
        for part in node.value:
            yield from part if isinstance(part, tuple) else (part,)
    elif node.tag == _INTEGER and len(node.value) > _MOST_DIGITS:
        raise Problem(
            _place(node.start_mark),
            f"The number has {len(node.value):,} digits; at most {_MOST_DIGITS} are allowed.",
        )


@cache
def _loader() -> Any:
    """A safe loader that refuses a key given twice, and tags whose text is no such value."""
    # Late: the extra `study` may be absent.
    import yaml

    class Loader(yaml.SafeLoader):
        """PyYAML's own, in Python: libyaml's recurses on the stack of C."""

        depth = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            self.depth += 1
            if self.depth > MOST_DEPTH:
                where = _place(self.get_mark())
                raise Problem(where, _TOO_DEEP)
            node = super().compose_node(parent, index)
            self.depth -= 1
            return node

        def construct_object(self, node: Any, deep: bool = False) -> Any:
            try:
                return super().construct_object(node, deep)
            except (ValueError, LookupError, TypeError, OverflowError, AttributeError) as error:
                # `!!int x`, `2020-02-31`: PyYAML lets the constructors' own errors through.
                shown = node.value if isinstance(node.value, str) else "this"
                raise yaml.constructor.ConstructorError(
                    None, None, f"{shown!r} {_NOT_OF_TYPE} {_tag(node)}", node.start_mark
                ) from error

    def mapping(loader: Any, node: Any) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == _MERGE:  # `<<: *anchor`; own keys override
                continue
            key = loader.construct_object(key_node, deep=True)
            if not isinstance(key, (str, int, float, bool, type(None))):
                raise yaml.constructor.ConstructorError(
                    None, None, "this key is not text", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is given twice", key_node.start_mark
                )
            seen.add(key)
        return dict(yaml.SafeLoader.construct_mapping(loader, node, deep=True))

    def unknown(loader: Any, node: Any) -> None:
        raise Problem(_place(node.start_mark), f"The tag `{_tag(node)}` is not allowed.", _NO_TAGS)

    Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    Loader.add_constructor(None, unknown)
    return Loader


def _check_values(value: Any, key: str) -> None:
    if isinstance(value, dict):
        for name, inner in value.items():
            _check_values(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _check_values(inner, f"{key}[{index}]")
    elif isinstance(value, float) and not math.isfinite(value):
        raise Problem(key, f"The value is {value}; it must be a finite number.")
    elif not isinstance(value, str | int | float | bool | None):
        kind = type(value).__name__
        raise Problem(key, f"YAML reads this value as type {kind}.", "Put it in quotes.")
