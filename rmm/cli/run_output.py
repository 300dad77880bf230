"""What `rmm study run` shows of a run: a line that counts fits, stages, and errors.

Snakemake prints a block for each job and much about itself. Its routine lines are left out; any
line that is not known is shown, so that nothing that matters is lost. The complete output is in
Snakemake's own log, which is named if a run fails.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TextIO

#: Seconds from one line of progress to the next in a log: the first ones, then the last of them.
PAUSES = (0.0, 15.0, 30.0, 60.0, 120.0)
_COUNTS = re.compile(r"fits [\d,]+ of ")
_STAGE = re.compile(r"Job \d+: (?P<stage>(?:Compiling|Collecting|Scoring|Writing) .*)")
_LOG = re.compile(r"Complete log\(s\): (?P<path>.*)")
#: Lines of Snakemake about itself and about jobs; lines that are indented belong to the one before.
_ROUTINE = re.compile(
    r"""Using\ .*\ for\ setting\ default\ command\ line\ arguments\.
    |Config\ file\ .*\ is\ extended\ by\ additional\ config\ specified\ via\ the\ command\ line\.
    |Assuming\ unrestricted\ shared\ filesystem\ usage\.
    |host:\ .*|Building\ DAG\ of\ jobs\.\.\.|Using\ shell:\ .*|Provided\ (cores|resources):\ .*
    |Rules\ claiming\ more\ threads\ will\ be\ scaled\ down\.|Conda\ environments:\ ignored
    |Job\ stats:|job\ +count|-+\ +-+|\w+\ +\d+
    |Select\ jobs\ to\ execute\.\.\.|Execute\ \d+\ jobs\.\.\.
    |\[\w{3}\ \w{3}\ +\d+\ [\d:]+\ \d{4}\]|Job\ \d+:\ .*|Finished\ jobid:\ .*
    |(local)?(rule|checkpoint)\ \w+:|\d+\ of\ \d+\ steps\ \(.*
    |DAG\ of\ jobs\ will\ be\ updated\ after\ completion\.|Updating\ checkpoint\ dependencies\.
    |Elapsed\ time:\ .*|Nothing\ to\ be\ done.*
    |Some\ jobs\ were\ triggered\ by\ provenance\ information,.*
    |If\ you\ prefer\ that\ only\ modification\ time\ is\ used\ to
    |determine\ whether\ a\ job\ shall\ be\ executed,.*|line\ option\ '--rerun-triggers\ mtime'.*
    |If\ you\ are\ sure\ that\ a\ change\ for\ a\ certain\ output\ file.*
    |change\ the\ result\ \(e\.g\..*|or\ environment\ definition\),.*
    |'snakemake\ --cleanup-metadata.*|Rules\ with\ provenance\ triggered\ jobs:.*
    |.*\ have\ (missing|outdated)\ provenance/metadata\ .*
    |Rules\ with\ (missing|outdated)\ metadata:.*
    """,
    re.VERBOSE,
)


@dataclass
class RunOutput:
    """The lines of a run, as a reader wants them.

    Parameters
    ----------
    out : TextIO
        A terminal has one line of progress, which changes; any other file gets a line of progress
        now and then.
    pauses : sequence of float
        Seconds between lines of progress off a terminal.
    """

    out: TextIO
    pauses: tuple[float, ...] = PAUSES
    log: str = ""
    _routine: bool = False
    _progress: str = ""
    _last: str = ""
    _lines: int = 0
    _spoke: float = field(default_factory=time.monotonic)

    def follow(self, lines: Iterable[str]) -> None:
        """Show the lines of a run until it ends."""
        for line in lines:
            self.show(line.rstrip("\r\n"))
        self._say_progress(last=True)

    def show(self, line: str) -> None:
        """One line of Snakemake's, or of ours."""
        if _COUNTS.match(line):
            self._progress = line
            self._say_progress()
        elif found := _LOG.match(line):
            self.log = found["path"]
        elif found := _STAGE.match(line):
            self._say(f"{found['stage']} ...")
            self._routine = True
        elif line.strip():
            if not line[0].isspace():
                self._routine = _ROUTINE.fullmatch(line) is not None
            if not self._routine:
                self._say(line)

    def _say_progress(self, *, last: bool = False) -> None:
        if not self._progress or (self._progress == self._last and not self.out.isatty()):
            return
        if self.out.isatty():
            width = shutil.get_terminal_size().columns - 1
            end = "\n" if last else ""
            print(f"\r\x1b[2K{self._progress[:width]}", end=end, file=self.out, flush=True)
        else:
            moment = time.monotonic()
            pause = self.pauses[min(self._lines, len(self.pauses) - 1)]
            if moment - self._spoke < pause and not last:
                return
            self._spoke, self._lines = moment, self._lines + 1
            print(self._progress, file=self.out, flush=True)
            self._last = self._progress

    def _say(self, line: str) -> None:
        """A line that stays, above that of progress."""
        clear = "\r\x1b[2K" if self.out.isatty() and self._progress else ""
        print(f"{clear}{line}", file=self.out, flush=True)
        if clear:
            self._say_progress()
