"""The sitecustomize of the ranks of a rehearsal on the CPU: DeepSpeed's gathers of parameters are awaited, each of them.

ZeRO-3 loads a module with several parameters by as many gathers, and waits for the last alone. Of NCCL's the last is
the last to end; gloo runs two at a time, and one that ends late writes over a weight that has been loaded meanwhile:
the loss is wrong, or NaN, in one run of five on a busy machine. In releases until DeepSpeed's change 8539 of September
2026 (https://github.com/deepspeedai/DeepSpeed/pull/8539). On GPUs, for which the CPU stands in, it does not happen.

Imports nothing of the doctor, and nothing at all until DeepSpeed is imported.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

MODULE, BACKEND, GATHERS = "deepspeed.comm.torch", "TorchBackend", ("all_gather_into_tensor", "all_gather")


def awaited(gather: Callable[..., Any]) -> Callable[..., Any]:
    def whole(*arguments: Any, **named: Any) -> Any:
        work = gather(*arguments, **named)
        if hasattr(work, "wait"):  # an asynchronous one; it may be awaited again
            work.wait()
        return work

    return whole


class Finder(importlib.abc.MetaPathFinder):
    """Finds MODULE as ever, and changes its backend once it has been run."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                run(module)
                backend = getattr(module, BACKEND, None)
                for gather in GATHERS:
                    if hasattr(backend, gather):
                        setattr(backend, gather, awaited(getattr(backend, gather)))

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def run_hidden() -> None:
    """Run the sitecustomize that stands behind this one on the path, if there is one."""
    here = os.path.dirname(os.path.abspath(__file__))
    others = [folder for folder in sys.path if os.path.abspath(folder) != here]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


sys.meta_path.insert(0, Finder())
run_hidden()
