"""What compiling a Stan program costs, and that no way of compiling changes its draws.

Usage: python benchmarks/compile_time.py [PROGRAM.stan DATA.json]

Compiles one program five times with g++ in a temporary folder (two to five minutes of CPU):
with Stan's own headers, with the package's model header (`model_base_crtp.hpp`), and with it and a
precompiled header at -O3 and -O1. By default: 200 groups, gaussian, estimated weights.
"""

from __future__ import annotations

import hashlib
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import rmm
from rmm.backends.stan.install import command_words, compiler, find_cmdstan
from rmm.backends.stan.run import as_json

FORMULA = "y ~ 1 + z + mm(id(member, group), vars(x), fn(w ~ 1/n^exp(-b1*power)), RE = TRUE)"
TRUTH = {"b_l2[Intercept]": 0, "b_l2[z]": 0.5, "b_l1[x]": 0.5, "b_w[b1]": 0.5}
FLAGS = ["-std=c++17", "-D_REENTRANT", "-DBOOST_DISABLE_ASSERTS", "-w"]
HEADER = "stan/model/model_header.hpp"


def cpu_seconds(command: list[str], cwd: Path) -> float:
    """User and system seconds of a command, which must succeed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=cwd, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def example() -> tuple[str, str]:
    """Program and data."""
    data = rmm.simulate(
        FORMULA,
        {**TRUTH, "sigma_l1": 1, "sigma_l2": 1},
        membership={"kind": "synthetic", "groups": 200, "members": 50, "size": 3},
        covariates={
            "x": {"level": "member"},
            "z": {"level": "group"},
            "power": {"level": "membership"},
        },
        seed=1,
    ).data
    program = rmm.program(FORMULA, backend="stan", data=data)
    return program, as_json(rmm.program_data(FORMULA, data, backend="stan"))


def main() -> None:
    """Compile, sample and print."""
    home = find_cmdstan().path
    files = [Path(name).read_text() for name in sys.argv[1:]]
    program, data = files if files else example()
    json.loads(data)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        (work / "program.stan").write_text(program)
        (work / "data.json").write_text(data)
        stanc = [str(home / "bin" / "stanc"), "--O1", "--o=program.hpp", "program.stan"]
        cpu_seconds(stanc, work)
        gxx = [*command_words(compiler()), *FLAGS]
        plain = ["-I", str(home / "include")]
        own = ["-I", str(home / "own"), *plain]
        if not (home / "main.o").is_file():
            cpu_seconds([*gxx, "-O1", *own, "-c", "-o", "main.o", str(home / "main.cpp")], home)
        ways = {"Stan's headers, -O3": ("-O3", plain), "own model header, -O3": ("-O3", own)}
        for level in ("-O3", "-O1"):
            folder = work / f"header{level}"
            (folder / HEADER).parent.mkdir(parents=True)
            make = [*gxx, level, *own, "-x", "c++-header", str(home / "include" / HEADER)]
            seconds = cpu_seconds([*make, "-o", str(folder / f"{HEADER}.gch")], work)
            print(f"precompiled header, {level}: CPU {seconds:.1f} s", flush=True)
            ways[f"own and precompiled, {level}"] = (level, ["-I", str(folder), *own])
        for way, (level, includes) in ways.items():
            compiling = [*gxx, level, *includes, "-x", "c++", "-c", "-o", "p.o", "program.hpp"]
            seconds = cpu_seconds(compiling, work)
            link = [*gxx, "-o", "program", "p.o", str(home / "main.o"), "-L", str(home / "lib")]
            link += [f"-Wl,-rpath,{home / 'lib'}", "-lsundials_cvodes", "-lsundials_idas"]
            subprocess.run(
                [*link, "-lsundials_kinsol", "-lsundials_nvecserial", "-ltbb"], cwd=work, check=True
            )
            sample = ["./program", "id=1", "random", "seed=4", "data", "file=data.json", "output"]
            sample += ["file=o.csv", "sig_figs=12", "refresh=0", "method=sample"]
            sampling = cpu_seconds(sample, work)
            lines = (work / "o.csv").read_text().splitlines()
            draws = "\n".join(line for line in lines if not line.startswith("#"))
            digest = hashlib.sha256(draws.encode()).hexdigest()[:12]
            print(f"{way}: CPU {seconds:.1f} s; sampling {sampling:.2f} s; draws {digest}")


if __name__ == "__main__":
    main()
