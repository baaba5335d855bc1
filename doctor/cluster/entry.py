"""Runs on every rank in place of LLaMA-Factory's launcher.py: the same `run_exp`, with a callback that can stop it well.

It stands alone: the job script's folder holds a copy. When the stop file appears (the job script makes it on the signal
before the time limit), every rank saves a checkpoint at the same step and ends with code 0. Rank 0 looks for the file
after each step and tells the others, so that all agree and only one process asks the file system.

    RUN_FOLDER/ranks/rank3.node2.err.log     links to what torchrun's --tee writes, named by global rank and node
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Any

STOP_VARIABLE = "SKYT1_DOCTOR_STOP_FILE"
FOLDER_VARIABLE = "SKYT1_DOCTOR_RUN_FOLDER"


def name_logs() -> None:
    """Links to this rank's logs under its global rank and node; a convenience, so a file system without links is fine."""
    error_file = os.environ.get("TORCHELASTIC_ERROR_FILE")
    folder = os.environ.get(FOLDER_VARIABLE)
    if not error_file or not folder:
        return
    place = Path(folder) / "ranks"
    node = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
    for stream, short in (("stdout", "out"), ("stderr", "err")):
        log = Path(error_file).parent / f"{stream}.log"
        link = place / f"rank{os.environ.get('RANK', '0')}.{node}.{short}.log"
        try:
            place.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(os.path.relpath(log, place))
        except OSError as error:
            print(f"no link to {log}: {error}", file=sys.stderr)


def agreed(asked: bool) -> bool:
    """What rank 0 saw, on every rank."""
    import torch
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        return asked
    on_gpu = dist.get_backend() == "nccl"
    flag = torch.tensor([int(asked)], device=torch.device("cuda", torch.cuda.current_device()) if on_gpu else "cpu")
    dist.broadcast(flag, src=0)
    return bool(flag.item())


def callback() -> Any:
    import torch.distributed as dist
    from transformers import TrainerCallback

    class StopAndSave(TrainerCallback):  # type: ignore[misc]  # transformers is not there when this is checked
        stopping = False

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
            path = os.environ[STOP_VARIABLE]
            if agreed(state.is_world_process_zero and os.path.exists(path)):
                self.stopping = control.should_save = control.should_training_stop = True
            return control

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
            if self.stopping:
                if dist.is_available() and dist.is_initialized():
                    dist.barrier()  # every rank has written its part
                if state.is_world_process_zero:
                    Path(os.environ[STOP_VARIABLE] + ".saved").write_text(f"{state.global_step}\n")
                    print(f"checkpoint-{state.global_step} was saved before the time limit; ending", flush=True)
                sys.exit(0)
            return control

    return StopAndSave()


def main() -> None:
    name_logs()
    from llamafactory.train.tuner import run_exp

    run_exp(callbacks=[callback()] if os.environ.get(STOP_VARIABLE) else [])


if __name__ == "__main__":
    main()
