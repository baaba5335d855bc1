"""`check --offline` beside what users run today to look at their environment, in one run, as ratios.

    python benchmarks/check.py --env ENV --workspace DIR [--repeat 3]

ENV is a training environment (`make demo` leaves one in .demo/env), DIR a recipe workspace (.demo/workspace). Each
command runs once unmeasured, then `repeat` times; the median is shown. Memory is the peak of the process itself.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMIT = 120.0  # seconds for one command


def measure(argv: list[str], cwd: Path, environ: dict[str, str]) -> tuple[float, float, int]:
    """Seconds, peak resident memory in MB and exit code of one run."""
    with tempfile.TemporaryFile() as sink:
        started = time.perf_counter()
        process = subprocess.Popen(argv, cwd=cwd, env=environ, stdout=sink, stderr=sink, stdin=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        return time.perf_counter() - started, usage.ru_maxrss / 1024, os.waitstatus_to_exitcode(status)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--env", type=Path, default=Path(".demo/env"))
    parser.add_argument("--workspace", type=Path, default=Path(".demo/workspace"))
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path, help="Write the figures here too.")
    arguments = parser.parse_args()
    scripts, work = arguments.env.absolute() / "bin", arguments.workspace.absolute()
    if missing := [str(path) for path in (scripts, work) if not path.is_dir()]:
        parser.error(
            f"{' and '.join(missing)} is not there; `make demo` makes both, or name others with --env, --workspace"
        )
    environ = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}", "VIRTUAL_ENV": str(scripts.parent)}
    environ["NPROC_PER_NODE"] = "2"
    doctor, python = str(Path(sys.executable).parent / "skyt1-doctor"), str(scripts / "python")
    commands = {
        "skyt1-doctor check --offline": [doctor, "check", "--offline"],
        "skyt1-doctor --help": [doctor, "--help"],
        "llamafactory-cli env": [str(scripts / "llamafactory-cli"), "env"],
        "ds_report": [str(scripts / "ds_report")],
        "accelerate env": [str(scripts / "accelerate"), "env"],
        "pip check": [sys.executable, "-m", "pip", "--python", python, "check"],
        "python -m torch.utils.collect_env": [python, "-m", "torch.utils.collect_env"],
    }
    rows = {}
    for name, argv in commands.items():
        measure(argv, work, environ)
        runs = [measure(argv, work, environ) for _ in range(arguments.repeat)]
        seconds = statistics.median(run[0] for run in runs)
        rows[name] = {"seconds": round(seconds, 3), "peak_mb": round(max(run[1] for run in runs)), "exit": runs[0][2]}
    ours = rows["skyt1-doctor check --offline"]["seconds"]
    print(f"{'command':38}{'seconds':>9}{'× check':>9}{'peak MB':>9}{'exit':>6}")
    for name, row in rows.items():
        print(f"{name:38}{row['seconds']:9.2f}{row['seconds'] / ours:9.1f}{row['peak_mb']:9}{row['exit']:6}")
    if arguments.json:
        told = {
            "date": time.strftime("%Y-%m-%d"),
            "machine": f"{os.cpu_count()} CPU cores, load {os.getloadavg()[1]:.1f}, warm",
            "repeat": arguments.repeat,
            "rows": rows,
        }
        arguments.json.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
