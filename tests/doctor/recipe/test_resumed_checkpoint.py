import io
import json
import zipfile

import pytest

from doctor.recipe import resumed_checkpoint
from tests.doctor.recipe import standin


def archive():
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as made:
        made.writestr("data.pkl", "x" * 400)
    return held.getvalue()


def checkpoint(tmp_path, deepspeed=False):
    (tmp_path / "trainer_state.json").write_text(json.dumps({"global_step": 2, "epoch": 1.0}))
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        (tmp_path / name).write_bytes(archive())
    standin.safetensors(tmp_path / "model.safetensors", {"model.norm.weight": [8]})
    if deepspeed:
        (tmp_path / "optimizer.pt").unlink()
        (tmp_path / "latest").write_text("global_step2")
        (tmp_path / "global_step2").mkdir()
        for name in ("mp_rank_00_model_states.pt", "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt"):
            (tmp_path / "global_step2" / name).write_bytes(archive())
    return tmp_path


def faults(folder, stage=None, ranks=(), **values):
    names = {path.name for path in folder.iterdir()}
    return list(resumed_checkpoint.faults(folder, names, {"finetuning_type": "full", **values}, stage, ranks))


def said(folder, stage=None, **values):
    return [fault.what for fault in faults(folder, stage, **values)]


@pytest.mark.parametrize("stage", [None, 2])
def test_a_whole_one(tmp_path, stage):
    assert said(checkpoint(tmp_path, stage is not None), stage) == []


@pytest.mark.parametrize("name", ["optimizer.pt", "rng_state.pth", "model.safetensors"])
def test_a_piece_that_is_cut(tmp_path, name):
    path = checkpoint(tmp_path) / name
    path.write_bytes(path.read_bytes()[:60])
    assert name in said(tmp_path)[0]


@pytest.mark.parametrize("text", ["", "[]", '{"global_step": "2"}', '{"global_step": [1]}', "{"])
def test_a_state_that_is_none(tmp_path, text):
    (checkpoint(tmp_path) / "trainer_state.json").write_text(text)
    assert "trainer_state.json" in said(tmp_path)[0]


def test_another_method(tmp_path):
    assert "finetuning_type is lora" in said(checkpoint(tmp_path), finetuning_type="lora")[0]
    (tmp_path / "adapter_config.json").write_text("{}")
    assert "it holds an adapter" in said(tmp_path)[0]


def test_an_adapter_of_another_rank(tmp_path):
    checkpoint(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    standin.safetensors(tmp_path / "adapter_model.safetensors", {"base_model.model.q_proj.lora_A.weight": [4, 8]})
    assert "rank 4, lora_rank is 8" in said(tmp_path, finetuning_type="lora")[0]
    assert said(tmp_path, finetuning_type="lora", lora_rank=4) == []


def test_pieces_of_deepspeed(tmp_path):
    checkpoint(tmp_path, deepspeed=True)
    assert "ZeRO-3" in said(tmp_path, 3)[0]
    states = tmp_path / "global_step2" / "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt"
    states.rename(states.with_name(states.name.replace("rank_0_", "rank_1_")))
    assert "of the ranks 1" in said(tmp_path, 2)[0]
    (tmp_path / "latest").write_text("global_step9")
    assert 'latest names "global_step9"' in said(tmp_path, 2)[0]
    (tmp_path / "latest").unlink()
    assert "latest is not there" in said(tmp_path, 2)[0]


@pytest.mark.parametrize(
    ("ranks", "fault"), [((0, 1), False), ((2, 3), False), ((0, 2), True), ((1, 2), True), ((2, 3, 4), True)]
)
def test_the_ranks_of_a_node_of_its_own(tmp_path, ranks, fault):
    checkpoint(tmp_path, deepspeed=True)
    states = tmp_path / "global_step2" / "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt"
    content = states.read_bytes()
    states.unlink()
    for rank in ranks:
        states.with_name(states.name.replace("rank_0_", f"rank_{rank}_")).write_bytes(content)
    assert any("optimizer states of the ranks" in word for word in said(tmp_path, 2)) is fault


def test_steps(tmp_path):
    assert resumed_checkpoint.steps_done(checkpoint(tmp_path)) == 2


def test_the_states_of_other_ranks_than_the_run_has(tmp_path):
    folder = checkpoint(tmp_path, deepspeed=True)
    assert faults(folder, 2, ranks=(1,)) == []
    (found,) = faults(folder, 2, ranks=(2,))
    assert (found.kind, "of 1 ranks, and the run has 2" in found.what) == (resumed_checkpoint.OTHER_RANKS, True)
    assert faults(folder, 2, ranks=(2, 1)) == []  # two nodes of one rank each, each with a disk of its own


def test_what_is_damaged_and_what_belongs_to_another_run_are_two_causes(tmp_path):
    folder = checkpoint(tmp_path)
    assert [fault.kind for fault in faults(folder, finetuning_type="lora")] == [resumed_checkpoint.FOREIGN]
    (folder / "trainer_state.json").write_text("")
    assert faults(folder)[0].kind == resumed_checkpoint.UNUSABLE
