"""`rmm completion` writes a script that the shell can use."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from rmm.cli import main


def completions(script: Path, words: list[str]) -> list[str]:
    """What bash offers for the last word."""
    line = " ".join(words)
    asked = (
        f"source {script}; COMP_WORDS=({line!s} ''); COMP_CWORD={len(words)}; "
        "_shtab_rmm; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_bash_completes_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if shutil.which("bash") is None:
        pytest.skip("bash is absent")
    assert main(["completion", "bash"]) == 0
    script = tmp_path / "rmm.sh"
    script.write_text(capsys.readouterr().out)
    assert {"doctor", "fit", "simulate", "study"} <= set(completions(script, ["rmm"]))
    assert {"new", "check", "replay"} <= set(completions(script, ["rmm", "study"]))


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_other_shells(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    assert "preregister" in capsys.readouterr().out


def test_an_unknown_shell(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["completion", "cmd"])
    assert "invalid choice" in capsys.readouterr().err
