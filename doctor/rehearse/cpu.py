"""What of a GPU recipe the target's packages can do on a CPU, from their source."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from doctor.recipe.source_tree import package_root
from doctor.target import Target

GATHERS = Path(__file__).parent / "gathers_child.py"
SMALL_VOCABULARY = 10_000  # up to here bf16 without instructions for it is quick enough


def takes_bf16(target: Target, vocabulary: int) -> bool:
    """Whether bf16 can be rehearsed without a GPU, and in time.

    Later releases of transformers ask for a GPU unless use_cpu is set, which DeepSpeed does not bear. Processors without
    instructions for bf16 emulate it, ten times slower than 32-bit numbers: two steps at a vocabulary of 152,000 took
    more than three minutes.
    """
    source = _transformers(target, "training_args.py")
    allowed = "if torch.cuda.is_available() and not is_torch_bf16_gpu_available()" in source
    return allowed and (vocabulary <= SMALL_VOCABULARY or _has_instructions())


def _has_instructions() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def resumes_alone(target: Target) -> bool:
    """Whether a resume of several CPU processes without DeepSpeed dies of transformers itself.

    It loads the optimizer onto `args.device`, which is `cpu:0` and `cpu:1` there: names that torch.load does not know.
    """
    return "map_location = self.args.device if self.args.world_size > 1" in _transformers(target, "trainer.py")


def await_gathers(environ: Mapping[str, str], folder: Path) -> dict[str, str]:
    """The environment of ranks that wait for each of DeepSpeed's gathers (gathers_child.py); `folder` is made for it.

    A folder with a colon in its name cannot stand on PYTHONPATH: then the environment stays as it is.
    """
    if os.pathsep in str(folder):
        return dict(environ)
    folder.mkdir()
    shutil.copyfile(GATHERS, folder / "sitecustomize.py")
    path = os.pathsep.join([str(folder.absolute()), *filter(None, [environ.get("PYTHONPATH")])])
    return {**environ, "PYTHONPATH": path}


def _transformers(target: Target, name: str) -> str:
    root = package_root("transformers", target.site)
    try:
        return (root / name).read_text(encoding="utf-8") if root else ""
    except OSError:
        return ""
