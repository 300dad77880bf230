"""Remove the lock that a killed run left behind, and only that.

Usage: `python workflow/scripts/unlock.py [options for snakemake]` in the project's root.

Snakemake locks the files that it works on and forgets to unlock them when it is killed. Its own
`--unlock` asks nobody. Here a lock is removed only if it can be shown that nobody is at work:
each run notes its host and process in `.snakemake/rmm_owners`, and all of these must be of this
host and gone; no process on this host may be a Snakemake, or one of its jobs, in this folder; and
Slurm, where there is one, may have no job of this folder (jobs outlive a killed Snakemake, and
write). Exit codes: 0 nothing is locked (any more), 1 the lock stays, and why.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import psutil

from rmm.study.run.claim import jobs_in_slurm

LOCKS = Path(".snakemake/locks")
OWNERS = Path(".snakemake/rmm_owners")


def alive_here() -> list[str]:
    """Processes of a Snakemake in this folder, jobs included; not this one and what started it."""
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            here = process.cwd() == os.getcwd()
        except psutil.Error:
            continue
        if here and process.pid not in own and any("snakemake" in word for word in words[:4]):
            found.append(f"process {process.pid}: {' '.join(words)[:100]}")
    return found


def owners_elsewhere() -> list[str]:
    """Runs of other hosts in this (shared) folder that have not said that they ended."""
    found = []
    for path in sorted(OWNERS.glob("*.json")):
        owner = json.loads(path.read_text(encoding="utf-8"))
        if owner["host"] != socket.gethostname():
            found.append(f"process {owner['pid']} on {owner['host']} (noted in {path})")
    return found


def main() -> int:
    """Unlock if that is safe."""
    if not any(LOCKS.glob("*.lock")):
        return 0
    at_work = alive_here() + jobs_in_slurm()
    elsewhere = owners_elsewhere()
    if at_work or elsewhere:
        print("This folder is locked, and these may be at work in it:", file=sys.stderr)
        print(*(f"    {line}" for line in at_work + elsewhere), sep="\n", file=sys.stderr)
        print(
            "Wait for them or end them (Slurm's with scancel). If a run on another host is known "
            "to be dead, delete its note and start again.",
            file=sys.stderr,
        )
        return 1
    if not any(OWNERS.glob("*.json")):
        print(
            "This folder is locked by a run that left no note of its host. If no Snakemake "
            "works in it: snakemake --unlock",
            file=sys.stderr,
        )
        return 1
    print("A run was killed here and left a lock; no process of it is alive. Unlocking.")
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--unlock", "--cores", "1", *sys.argv[1:]], check=False
    )
    if done.returncode == 0:
        for path in OWNERS.glob("*.json"):
            path.unlink()
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
