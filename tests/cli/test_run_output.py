"""What a run shows: counts and stages, no line of Snakemake about itself, every error."""

from __future__ import annotations

import io

import pytest

from rmm.cli.run_output import RunOutput

#: What Snakemake 9.27 wrote for a study of six fits, with two lines of progress.
RUN = """\
Using workflow specific profile /a b/workflow/profiles for setting default command line arguments.
Assuming unrestricted shared filesystem usage.
Building DAG of jobs...
Using shell: /usr/bin/bash
Provided cores: 2
Rules claiming more threads will be scaled down.
Conda environments: ignored
Job stats:
job            count
-----------  -------
design             1
fit                2
total              7

3 jobs have missing provenance/metadata so that it in part cannot be used to trigger re-runs.
Rules with missing metadata: fit
Select jobs to execute...
Execute 2 jobs...

[Tue Dec  1 00:17:54 2026]
Job 5: aggregation, sd628316e58, replications 00004-00006
fits 3 of 6 (50%), about 2 min left
[Tue Dec  1 00:19:00 2026]
Finished jobid: 4 (Rule: fit)
1 of 7 steps (14%) done
Job 2: Study tiny: 1 scenarios, 1 methods
fits 6 of 6 (100%)
Job 1: Writing results/tiny/report/index.html
localrule all:
    input: results/tiny/report/index.html, results/tiny/steps/design-8d46138494295ca1.json
    jobid: 0
    resources: tmpdir=/tmp
Complete log(s): /a b/.snakemake/log/2026.log
Elapsed time: 0:04:24.081926
""".splitlines(keepends=True)  # fmt: skip
FAILED = """\
[Tue Dec  1 00:17:54 2026]
Job 5: aggregation, sd628316e58, replications 00004-00006
Error in rule fit:
    message: None
    log: results/tiny/logs/fit/1-3.log (check log file(s) for error details)
Logfile results/tiny/logs/fit/1-3.log:
================================================================================
The disk is full.
================================================================================
Finished jobid: 4 (Rule: fit)
A line that nobody has seen before
    and what belongs to it
""".splitlines(keepends=True)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_has_counts_and_stages() -> None:
    out = io.StringIO()
    output = RunOutput(out, pauses=(0.0,))
    output.follow(RUN)
    assert out.getvalue().splitlines() == [
        "fits 3 of 6 (50%), about 2 min left",
        "fits 6 of 6 (100%)",
        "Writing results/tiny/report/index.html ...",
    ]
    assert output.log == "/a b/.snakemake/log/2026.log"


def test_a_log_gets_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = 0.0
    monkeypatch.setattr("rmm.cli.run_output.time.monotonic", lambda: moment)
    out = io.StringIO()
    output = RunOutput(out, pauses=(0.0, 10.0, 100.0))
    output._spoke = 0.0
    said = []
    for moment in range(0, 400, 5):
        before = len(out.getvalue())
        output.show(f"fits {moment} of 400 (0%)")
        said += [moment] * (len(out.getvalue()) > before)
    assert said == [0, 10, 110, 210, 310]
    output.follow([])
    assert out.getvalue().splitlines()[-1] == "fits 395 of 400 (0%)"  # the end


def test_a_terminal_has_one_line_that_changes() -> None:
    out = Terminal()
    RunOutput(out).follow(RUN)
    shown = out.getvalue()
    assert shown.count("\n") == 2  # the stage, and the last line of progress
    assert shown.count("\r\x1b[2Kfits 3 of 6 (50%), about 2 min left") == 1
    assert shown.endswith("\r\x1b[2Kfits 6 of 6 (100%)\n")


def test_errors_and_unknown_lines_are_shown() -> None:
    out = io.StringIO()
    RunOutput(out).follow(FAILED)
    assert out.getvalue().splitlines() == [
        line.rstrip("\n") for line in (*FAILED[2:9], *FAILED[10:])
    ]
