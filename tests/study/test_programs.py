"""Compiled programs of a study: one job makes them, all fits use them. Compilers are made up."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path

import pytest

from rmm.backends.stan import compile as stan_compile
from rmm.backends.stan import cpu as processor
from rmm.backends.stan.compile import compile_program
from rmm.backends.stan.install import wheel
from rmm.errors import BackendError
from rmm.study import Study, load_study
from rmm.study.run.compile_programs import compile_method, use_compiled
from tests.backends.test_cmdstan_home import cache, fake_compiler, without_tools  # noqa: F401  (fixtures)
from tests.workflow.test_workflow import STUDY

pytestmark = pytest.mark.skipif(wheel() is None, reason="the wheel httpstan is not installed")

METHOD = "  - {name: mm, kind: mm, backend: stan}\n"


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.setattr(stan_compile, "_told", {})
    file = tmp_path / "tiny.yaml"
    file.write_text(STUDY.replace("estimands:\n", METHOD + "estimands:\n"))
    return load_study(file)


def compiled(study: Study, tmp_path: Path) -> tuple[Path, list[Path]]:
    marker = tmp_path / "mm.json"
    compile_method(study, "mm", marker)
    return marker, [Path(path) for path in json.loads(marker.read_text())["programs"]]


def text_of(executable: Path) -> str:
    return (executable.parent / "program.stan").read_text()


def test_the_marker_names_executables_and_processors(
    cache: Path,  # noqa: F811
    fake_compiler: object,  # noqa: F811
    study: Study,
    tmp_path: Path,
) -> None:
    fake_compiler()  # type: ignore[operator]
    marker, made = compiled(study, tmp_path)
    assert json.loads(marker.read_text())["processors"] == [processor.architecture()]
    assert len(made) == 1, "both scenarios have the same program"
    assert made[0].is_file()


def test_fits_use_what_was_compiled_though_their_node_has_no_compiler(
    cache: Path,  # noqa: F811
    fake_compiler: object,  # noqa: F811
    study: Study,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake_compiler()  # type: ignore[operator]
    marker, (made,) = compiled(study, tmp_path)
    monkeypatch.delenv("CXX")
    without_tools(tmp_path, monkeypatch)
    assert use_compiled(study, study.scenarios[0].id, "mm", marker) == ""
    assert compile_program(text_of(made)) == made


def test_a_node_of_another_kind_compiles_and_says_so(
    cache: Path,  # noqa: F811
    fake_compiler: object,  # noqa: F811
    study: Study,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = fake_compiler()  # type: ignore[operator]
    monkeypatch.setenv("CXX", f"{tmp_path}/fake-g++ -march=native")
    marker, (made,) = compiled(study, tmp_path)
    monkeypatch.setattr(processor, "this_kind", lambda: f"{processor.architecture()}.0ther000")
    said = use_compiled(study, study.scenarios[0].id, "mm", marker)
    assert f"    {made}\n" in said
    assert "0ther000" in said
    again = compile_program(text_of(made))
    assert again != made
    assert str(again) in said
    assert log.read_text().count("program.hpp") == 2

    # Where that is not possible the job fails, before a fit could be noted as failed.
    monkeypatch.delenv("CXX")
    again.unlink()
    without_tools(tmp_path, monkeypatch)
    with pytest.raises(BackendError, match="compiler"):
        use_compiled(study, study.scenarios[0].id, "mm", marker)


def test_a_cache_that_is_not_shared_is_named(
    cache: Path,  # noqa: F811
    fake_compiler: object,  # noqa: F811
    study: Study,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake_compiler()  # type: ignore[operator]
    marker, (made,) = compiled(study, tmp_path)
    shutil.rmtree(made.parent)
    monkeypatch.setenv("RMM_CACHE", str(tmp_path / "of this node"))
    said = use_compiled(study, study.scenarios[0].id, "mm", marker)
    assert f"{made} (not there)" in said
    assert "Set RMM_CACHE to a folder that all nodes share" in said


def test_a_changed_executable_is_not_used_by_a_study(
    cache: Path,  # noqa: F811
    fake_compiler: object,  # noqa: F811
    study: Study,
    tmp_path: Path,
) -> None:
    fake_compiler()  # type: ignore[operator]
    marker, (made,) = compiled(study, tmp_path)
    content = made.read_bytes()
    made.write_bytes(content + b"\n")
    said = use_compiled(study, study.scenarios[0].id, "mm", marker)
    assert f"{made} (not the file that was compiled)" in said
    made.write_bytes(content)
    assert use_compiled(study, study.scenarios[0].id, "mm", marker) == ""


@pytest.mark.parametrize("change", ["content", "link"])
def test_a_changed_executable_is_compiled_again(
    cache: Path,  # noqa: F811
    fake_compiler: object,  # noqa: F811
    study: Study,
    tmp_path: Path,
    change: str,
) -> None:
    log = fake_compiler()  # type: ignore[operator]
    _, (made,) = compiled(study, tmp_path)
    content, program = made.read_bytes(), text_of(made)
    if change == "content":
        made.write_bytes(content[:-1])
    else:
        (tmp_path / "other").write_text("#!/bin/sh\n")
        made.unlink()
        made.symlink_to(tmp_path / "other")
    assert compile_program(program) == made
    assert made.read_bytes() == content
    assert log.read_text().count("program.hpp") == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only the administrator can give files away")
def test_an_executable_of_another_user_is_run_only_if_its_digest_is_known(
    cache: Path,  # noqa: F811
    fake_compiler: object,  # noqa: F811
    study: Study,
    tmp_path: Path,
) -> None:
    fake_compiler()  # type: ignore[operator]
    marker, (made,) = compiled(study, tmp_path)
    program, scenario = text_of(made), study.scenarios[0].id
    os.chown(made, 1234, -1)
    assert use_compiled(study, scenario, "mm", marker) == ""
    assert compile_program(program) == made, "this process was told that it is unchanged"
    stan_compile._told.clear()
    with pytest.raises(
        BackendError, match=r"program belongs to another user \(1234\).\n.*RMM_CACH"
    ):
        compile_program(program)
    made.write_bytes(made.read_bytes() + b"\n")
    with pytest.raises(BackendError, match="another user could have changed"):
        use_compiled(study, scenario, "mm", marker)


def test_a_cache_is_private_and_may_not_be_open_to_all(
    cache: Path,  # noqa: F811
    fake_compiler: object,  # noqa: F811
    study: Study,
    tmp_path: Path,
) -> None:
    fake_compiler()  # type: ignore[operator]
    _, (made,) = compiled(study, tmp_path)
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    program = text_of(made)
    made.parent.chmod(0o777)
    with pytest.raises(BackendError, match=f"all users can write to {made.parent}"):
        compile_program(program)
