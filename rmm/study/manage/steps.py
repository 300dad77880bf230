"""Steps of a study besides its fits, and whether their files belong to the batches that there are.

A step that has ended leaves a record, ``steps/<step>-<content>.json``: the digest of the study's
description in its name, and the digests of all files that the step has read and written. So content
decides what runs again, whatever the time stamps of files are, and wherever they were copied from.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from rmm.study.files import seeds
from rmm.study.files.disks import writing
from rmm.study.files.file_times import date_back
from rmm.study.files.parquet import readable_by_user
from rmm.study.files.records import read_record, write_record

FOLDER = "steps"
_BATCHES = "estimates"


@dataclass(frozen=True)
class Step:
    """Files that a step reads and writes, below the results; of folders, all files in them."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


STEPS = {
    "design": Step((), ("config.yaml", "scenarios.parquet")),
    "collect": Step((_BATCHES,), ("estimates.parquet", "stopping.parquet")),
    "performance": Step(("estimates.parquet",), ("performance.parquet",)),
    "power": Step(("performance.parquet",), ("power.parquet",)),
    "report": Step(
        (
            "config.yaml",
            "scenarios.parquet",
            "estimates.parquet",
            "stopping.parquet",
            "performance.parquet",
            "power.parquet",
        ),
        (
            "report/index.html",
            "report/numbers.html",
            "report/headline.txt",
            "report/figures",
            "report/tables",
        ),
    ),
}


@dataclass(frozen=True)
class Outdated:
    """A step to be repeated.

    Attributes
    ----------
    step : str
    record : Path
        Its record, which does not hold any more.
    altered : tuple of Path
        Files that differ from those that the step has written.
    """

    step: str
    record: Path
    altered: tuple[Path, ...] = ()


def record_path(step: str, content: str) -> str:
    """Where the record of a step is, below the results; `content`: digest of the study."""
    return f"{FOLDER}/{step}-{content[:16]}.json"


def end_step(
    step: str, folder: str | Path, record: str | Path, batches: Iterable[str | Path] = ()
) -> None:
    """Write the record of a step that has ended; records of other versions of the study go.

    Parameters
    ----------
    step : str
        Of `STEPS`.
    folder : path
        The study's results.
    record : path
        `record_path`.
    batches : iterable of paths
        What the step `collect` has read.
    """
    folder, record = Path(folder), Path(record)
    digests = _Digests(folder, [Path(path) for path in batches])
    facts = {"inputs": digests.of(STEPS[step].inputs), "outputs": digests.of(STEPS[step].outputs)}
    with writing(record):
        for other in record.parent.glob(f"{step}-{'[0-9a-f]' * 16}.json"):
            other.unlink(missing_ok=True)
    write_record(facts, record)


def end_job(inputs: Iterable[str | Path]) -> None:
    """Let no input of a job that has ended be newer than its outputs."""
    for path in map(Path, inputs):
        if path.exists():
            with writing(path):
                date_back([path])


def outdated_steps(
    steps: Iterable[str], folder: str | Path, content: str, batches: Iterable[str | Path]
) -> list[Outdated]:
    """Steps whose records are missing or do not agree with the files that there are.

    Parameters
    ----------
    steps : iterable of str
        Those of `STEPS` that the study has.
    folder : path
        The study's results.
    content : str
        Digest of the study's description.
    batches : iterable of paths
        Batches that the study asks for, whether they exist or not.
    """
    folder = Path(folder)
    digests = _Digests(folder, [Path(path) for path in batches])
    return list(_outdated(steps, folder, content, digests))


def _outdated(
    steps: Iterable[str], folder: Path, content: str, digests: _Digests
) -> Iterator[Outdated]:
    for name in steps:
        step, path = STEPS[name], folder / record_path(name, content)
        record = read_record(path)
        if record is None:
            yield Outdated(name, path)
            continue
        inputs, found = digests.of(step.inputs), digests.of(step.outputs)
        outputs = {key: found.get(key) for key in record["outputs"]}  # others may be a user's
        if inputs != record["inputs"] or outputs != record["outputs"]:
            yield Outdated(name, path, tuple(_altered(folder, record["outputs"], found)))


def _altered(folder: Path, kept: Mapping[str, str], found: Mapping[str, str]) -> Iterator[Path]:
    for name, digest in kept.items():
        if name in found and found[name] != digest:
            yield folder / name


@dataclass
class _Digests:
    """Digests of files of a results folder, each computed once."""

    folder: Path
    batches: Sequence[Path]
    known: dict[str, str] = field(default_factory=dict)

    def of(self, names: Sequence[str]) -> dict[str, str]:
        """File -> digest, of those that exist; all batches have one digest together."""
        found: dict[str, str] = {}
        for name in names:
            if name == _BATCHES:
                found[name] = digest_of_batches(self.folder, self.batches)
            for path in self._files(name):
                key = path.relative_to(self.folder).as_posix()
                if key not in self.known:
                    self.known[key] = _digest(path)
                found[key] = self.known[key]
        return found

    def _files(self, name: str) -> list[Path]:
        path = self.folder / name
        if name == _BATCHES:
            return []
        if path.is_dir():
            return sorted(p for p in path.rglob("*") if p.is_file() and p.name[0] != ".")
        return [path] if path.is_file() else []


def digest_of_batches(folder: Path, batches: Iterable[Path]) -> str:
    """Digest of the names and contents of batches; "missing" if one does not exist."""
    paths = sorted(batches)
    try:
        with ThreadPoolExecutor(8) as pool:
            digests = list(pool.map(_digest, paths))
    except FileNotFoundError:
        return "missing"
    names = [path.relative_to(folder).as_posix() for path in paths]
    return seeds.digest(list(zip(names, digests, strict=True)))


def _digest(path: Path) -> str:
    with readable_by_user(path):
        return seeds.file_digest(path)
