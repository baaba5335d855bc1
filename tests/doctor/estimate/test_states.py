import pytest

from doctor.estimate.names import parameters_in_name
from doctor.estimate.states import Offload, checkpoint_bytes, disk_need, gpu_share, host_need, offload, steps_of

QWEN_32B = 32.76e9
GB = 1e9
FULL = Offload(3, "cpu", "cpu")
SKY = {"finetuning_type": "full", "per_device_train_batch_size": 1, "gradient_accumulation_steps": 12,
       "num_train_epochs": 3.0, "save_steps": 100, "max_samples": 1000000}  # fmt: skip


def test_published_figures_of_deepspeeds_estimator():
    """ZeRO-3 with full offload, 32.76e9 parameters, 8 GPUs of one node: 885 GB, 590 GB without the buffer factor."""
    need = host_need(QWEN_32B, FULL, 8, 1)
    assert (round(need.least / GB), round(need.usual / GB)) == (590, 885)
    assert round(host_need(QWEN_32B, Offload(3, "cpu"), 8, 1).usual / GB) == 786


def test_more_nodes_share_it():
    assert host_need(QWEN_32B, FULL, 8, 3).least == host_need(QWEN_32B, FULL, 8, 1).least // 3


def test_zero_2_with_offload():
    assert round(host_need(QWEN_32B, Offload(2, "cpu"), 8, 1).usual / GB) == 1572
    assert round(host_need(QWEN_32B, Offload(2, "cpu"), 2, 1).usual / GB) == 786


def test_what_stays_on_the_gpu_needs_no_host_memory():
    assert host_need(QWEN_32B, Offload(3), 8, 1).usual == 0
    assert host_need(QWEN_32B, Offload(3, "nvme", "nvme"), 8, 1).usual == 0


@pytest.mark.parametrize(
    ("zero", "ranks", "bytes_each"),
    [(Offload(), 1, 16), (Offload(), 2, 32), (Offload(2), 2, 20), (Offload(3), 2, 16), (FULL, 2, 18)],
)
def test_training_on_the_cpu_holds_everything(zero, ranks, bytes_each):
    assert host_need(1e9, zero, ranks, 1, on_cpu=True).least == bytes_each * 10**9


def test_states_on_a_gpu():
    assert round(gpu_share(QWEN_32B, 8) / GB) == 74


def test_offload_is_read_from_the_json():
    config = {
        "zero_optimization": {"stage": 3, "offload_optimizer": {"device": "cpu"}, "offload_param": {"device": "none"}}
    }
    assert offload(config) == Offload(3, "cpu", "none")
    assert offload(None) == Offload()
    assert offload({"zero_optimization": {"stage": "auto", "offload_optimizer": True}}) == Offload()


def test_checkpoints():
    assert round(checkpoint_bytes(QWEN_32B, deepspeed=True) / GB) == 459
    assert checkpoint_bytes(1e9, deepspeed=True, only_model=True) == 2 * 10**9
    assert checkpoint_bytes(1e9, deepspeed=False) == 12 * 10**9
    assert checkpoint_bytes(1e9, deepspeed=False, pure_bf16=True) == 6 * 10**9
    assert checkpoint_bytes(1e9, deepspeed=True, finetuning="lora") == 14 * 10**7


def test_the_published_run_writes_about_half_a_dozen_checkpoints():
    steps = steps_of(SKY, 17000, 8)
    assert steps == 531
    need = disk_need(QWEN_32B, SKY, True, steps)
    assert need.saves == 6  # 100 … 500, and the last step
    assert need.planned == 6 * need.checkpoint + 65_520_000_000


def test_limits_on_what_is_kept():
    assert disk_need(1e9, {**SKY, "save_total_limit": 1}, True, 531).saves == 2
    assert disk_need(1e9, {**SKY, "save_total_limit": 1}, True, None).planned == (2 * 14 + 2) * 10**9
    assert disk_need(1e9, {**SKY, "save_strategy": "no"}, True, 531).planned == 2 * 10**9
    assert disk_need(1e9, {**SKY, "save_strategy": "epoch"}, True, None).saves == 3
    assert disk_need(1e9, {**SKY, "save_only_model": True}, True, 100).checkpoint == 2 * 10**9
    assert disk_need(1e9, {**SKY, "save_steps": 0.25}, True, 100).saves == 4
    unknown = disk_need(1e9, SKY, True, None)
    assert (unknown.planned, unknown.saves, unknown.at_least) == (None, None, 16 * 10**9)


def test_steps():
    assert steps_of({**SKY, "max_steps": 7}, None, 8) == 7
    assert steps_of(SKY, None, 8) is None
    assert steps_of({**SKY, "max_samples": 960}, 17000, 8) == 30
    assert steps_of({**SKY, "gradient_accumulation_steps": "auto"}, 17000, 8) is None
    assert steps_of({**SKY, "num_train_epochs": 0.01}, 10, 8) == 1


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("Qwen/Qwen2.5-32B-Instruct", 32e9),
        ("/models/Qwen2-0.5B/", 0.5e9),
        ("mistralai/Mixtral-8x7B-v0.1", 56e9),
        ("HuggingFaceTB/SmolLM-135M", 135e6),
        ("NovaSky-AI/Sky-T1-32B-Preview", 32e9),
        ("Qwen/Qwen3-30B-A3B", 30e9),
        ("gpt2", None),
        ("meta-llama/Meta-Llama-3-hf", None),
        ("toy", None),
        ("mymodel4bit", None),
        ("v1.5b2", None),
        ("", None),
    ],
)
def test_size_in_a_name(name, size):
    assert parameters_in_name(name) == size
