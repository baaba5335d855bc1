"""Measure what one machine with several GPUs shows: `python run.py PART OUT --wheels WHEELS [--root DIR] [--cpu]`.

PART is one of see, no_sync, memory, lost, silent, one, pace, wrong_wheel, gpu_causes; README.md says what each shows. The
interpreter that runs this holds torch. `--cpu` rehearses the part on two CPU processes with a tiny model.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import gpu_causes
import lost
import no_sync
import one
import pace
import place
import see
import silent
import wrong_wheel
from rows import Out

PARTS = ("see", "no_sync", "memory", "lost", "silent", "one", "pace", "wrong_wheel", "gpu_causes")
ALONE = ("one", "pace", "wrong_wheel", "gpu_causes")  # one GPU suffices
# Of two wheels of one package in a folder, the wrong one is installed; the other one is what the fix asks for.
LEFT_OUT = {"no_sync": "deepspeed-0.15", "wrong_wheel": "torchaudio-2.11"}
# DeepSpeed's Adam on the CPU is compiled before anything is measured: the compiling process holds a CUDA context.
BUILD = "from deepspeed.ops.op_builder import CPUAdamBuilder; CPUAdamBuilder().load(verbose=False)"
SHAPES = ["0.5B", "1.5B", "3B", "7B-8-layers", "7B", "moe"]


def gpus() -> int:
    """How many GPUs torch sees, asked in a process of its own."""
    code = "import torch; print(torch.cuda.device_count())"
    return int(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()[-1]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("out", type=Path)
    parser.add_argument("--wheels", type=Path, required=True, help="the folder that wheels.py wrote")
    parser.add_argument("--root", type=Path, default=Path("/tmp/several_gpus"), help="environments, models, runs")
    parser.add_argument("--seconds", type=float, default=420.0, help="of the part memory: no run begins after them")
    parser.add_argument("--cases", default="", metavar="A,B", help="of the part gpu_causes: only these")
    parser.add_argument("--cpu", action="store_true")
    asked = parser.parse_args()
    begun = time.monotonic()
    os.environ |= {"NCCL_NVLS_ENABLE": "0", "TORCH_SYMM_MEM_DISABLE_MULTICAST": "1", "NVSHMEM_DISABLE_NVLS": "1"}
    ranks = 2 if asked.cpu else gpus()
    if ranks < 2 and asked.part not in ALONE:
        sys.exit(f"{ranks} GPUs are seen; this measures two or more (--cpu rehearses)")
    out, root, cpu = Out(asked.out, asked.part), asked.root.resolve(), asked.cpu
    wheels = asked.wheels.resolve()
    name = {"no_sync": "old", "wrong_wheel": "audio"}.get(asked.part, "new")
    folders = [wheels / "new", wheels / "audio"] if name == "audio" else [wheels / name]
    trains = place.environment(root / name, *folders, leave_out=LEFT_OUT.get(asked.part, ""))
    doctor = place.doctors_own(root / "doctor", wheels / "doctor") if asked.part != "memory" else trains
    print(f"environments stand after {time.monotonic() - begun:.1f} s", flush=True)
    work = root / f"work-{asked.part}-{int(time.time())}"
    work.mkdir(parents=True)
    (work / "models").symlink_to(root / "models")
    (root / "models").mkdir(exist_ok=True)
    if asked.part == "see":
        see.run(out, doctor, trains, work, ranks, cpu)
    elif asked.part == "no_sync":
        no_sync.run(out, doctor, trains, wheels / "old", work, ranks, cpu)
    elif asked.part == "lost":
        lost.run(out, doctor, trains, work, ranks, cpu)
    elif asked.part == "silent":
        silent.run(out, doctor, trains, work, ranks, cpu)
    elif asked.part == "one":
        one.run(out, doctor, trains, work, ranks, cpu)
    elif asked.part == "pace":
        pace.run(out, doctor, trains, work, cpu)
    elif asked.part == "gpu_causes":
        gpu_causes.run(out, doctor, trains, work, gpu_causes.names_of(asked.cases))
    elif asked.part == "wrong_wheel":
        wrong_wheel.run(out, doctor, trains, wheels / "audio", work, cpu)
    else:
        environ = place.environ_of(trains, ranks, cpu)
        build = None if cpu else subprocess.Popen([str(trains), "-c", BUILD], env=environ)
        place.write_models(trains, root / "models", [place.TINY[0]] if cpu else SHAPES)
        if build is not None:
            print(f"the optimizer of the offload was built: {build.wait() == 0}", flush=True)
        left = asked.seconds - (time.monotonic() - begun)
        order = {"out": str(asked.out.resolve()), "root": str(work), "ranks": ranks, "cpu": cpu, "seconds": left}
        script = str(place.HERE / "memory_runs.py")
        subprocess.run([str(trains), script, json.dumps(order)], check=False, env=environ)
    print(f"{asked.part} took {time.monotonic() - begun:.0f} s", flush=True)


if __name__ == "__main__":
    main()
