"""Faults of DeepSpeed's JSON, of the launch and of the machine around it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from tests.stack.programs import leave_out
from tests.stack.reproductions.place import Place
from tests.stack.reproductions.run import Reproduction

DEEPSPEED = ("deepspeed", "accelerate")


def deepspeed(**values: object):
    def inject(place: Place) -> None:
        place.environ["LOCAL_SIZE"] = place.environ["NPROC_PER_NODE"]
        place.write_deepspeed(**values)

    return inject


def config_not_there(place: Place) -> None:
    """The recipe names a folder of another release; the file lies where LLaMA-Factory keeps it."""
    deepspeed()(place)
    place.set_recipe(deepspeed="examples/ds_z3_offload_config.json")


def config_with_a_comma(place: Place) -> None:
    deepspeed()(place)
    text = place.deepspeed.read_text()
    place.deepspeed.write_text(text[: text.rindex("\n}")] + ",\n}\n")


def without_numactl(place: Place) -> None:
    """Stage 3 counts the devices when it scatters gradients; the other stages never do."""
    place.write_deepspeed(zero_optimization={"stage": 3})
    leave_out(place, "numactl")


def hub_model(place: Place) -> None:
    """A model of the hub, on a machine from which the hub cannot be reached."""
    place.set_recipe(model_name_or_path="Qwen/Qwen2.5-0.5B-Instruct")
    place.environ |= {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(place.root.parent / "cache")}


@contextmanager
def port_held(place: Place) -> Iterator[None]:
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("0.0.0.0", 29501))
        held.listen()
        yield


def healthy(place: Place) -> None:
    return None


def bf16(place: Place) -> None:
    place.set_recipe(bf16=True)


def deepspeed_with_use_cpu(place: Place) -> None:
    """Stage 3 makes the model before DeepSpeed's communication; the other stages train."""
    deepspeed(zero_optimization={"stage": 3})(place)
    place.set_recipe(use_cpu=True, bf16=False)


CASES = [
    Reproduction("ds-config-missing", config_not_there, torchrun=True),
    Reproduction("ds-config-invalid", config_with_a_comma, torchrun=True),
    Reproduction(
        "ds-config-hf-mismatch", deepspeed(train_micro_batch_size_per_gpu=4, gradient_clipping=0.5), torchrun=True
    ),
    Reproduction(
        "ds-config-hf-mismatch", deepspeed(train_batch_size=7), name="ds-config-hf-mismatch-total", torchrun=True
    ),
    Reproduction("env-numactl-missing", without_numactl, torchrun=True, packages=DEEPSPEED),
    Reproduction("launch-port-in-use", healthy, torchrun=True, around=port_held),
    Reproduction("hub-unreachable", hub_model, arguments=("--model", "{model}")),
    Reproduction("gpu-bf16-unsupported", bf16, stack="current"),
    Reproduction("ds-cpu-world-size", deepspeed_with_use_cpu, stack="current", processes=2),
]
CASES = [case.needing(*DEEPSPEED) if case.cause.startswith("ds-") else case for case in CASES]
