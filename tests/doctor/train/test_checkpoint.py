"""Which checkpoints can be resumed from. Files are made as transformers and DeepSpeed write them."""

import json
import zipfile

import pytest

from doctor.train import checkpoint


def torch_file(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", "state" * 100)


def weights(path):
    header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))


def plain(folder, step, ranks=2):
    folder.mkdir(parents=True)
    weights(folder / "model.safetensors")
    for name in ("optimizer.pt", "scheduler.pt", *[f"rng_state_{rank}.pth" for rank in range(ranks)]):
        torch_file(folder / name)
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    return folder


def zero3(folder, step, ranks=2):
    plain(folder, step, ranks)
    (folder / "optimizer.pt").unlink()
    for rank in range(ranks):
        torch_file(folder / f"global_step{step}" / f"zero_pp_rank_{rank}_mp_rank_00_model_states.pt")
        torch_file(folder / f"global_step{step}" / f"bf16_zero_pp_rank_{rank}_mp_rank_00_optim_states.pt")
    (folder / "latest").write_text(f"global_step{step}")
    return folder


@pytest.mark.parametrize("make", [plain, zero3])
def test_a_whole_one(tmp_path, make):
    found = checkpoint.look(make(tmp_path / "checkpoint-40", 40), 2)
    assert (found.faults, found.step, found.complete) == ((), 40, True)


@pytest.mark.parametrize("make", [plain, zero3])
@pytest.mark.parametrize("ranks", [2, 3])
def test_where_nobody_told_the_checkpoint_says_how_many_ranks_wrote_it(tmp_path, make, ranks):
    folder = make(tmp_path / "checkpoint-40", 40, ranks)
    assert checkpoint.look(folder, None).complete
    (folder / "rng_state_0.pth").write_bytes(b"")
    assert not checkpoint.look(folder, None).complete


@pytest.mark.parametrize(
    ("make", "name", "fault"),
    [
        (plain, "optimizer.pt", "optimizer.pt is cut off"),
        (plain, "rng_state_1.pth", "rng_state_1.pth is cut off"),
        (plain, "trainer_state.json", "trainer_state.json is cut off"),
        (plain, "model.safetensors", "model.safetensors is not whole"),
        (zero3, "global_step40/bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt", "optim_states.pt is cut off"),
    ],
)
def test_a_file_that_was_cut_off(tmp_path, make, name, fault):
    folder = make(tmp_path / "checkpoint-40", 40)
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: len(data) - 8])
    assert fault in "; ".join(checkpoint.look(folder, 2).faults)


@pytest.mark.parametrize(
    ("make", "name", "fault"),
    [
        (plain, "optimizer.pt", "optimizer.pt is missing"),
        (plain, "rng_state_0.pth", "rng_state_0.pth is missing"),
        (plain, "model.safetensors", "it holds no weights"),
        (plain, "trainer_state.json", "trainer_state.json is missing"),
        (zero3, "latest", "latest is missing"),
        (
            zero3,
            "global_step40/zero_pp_rank_1_mp_rank_00_model_states.pt",
            "global_step40 holds the model states of 1 ranks for 2 (missing: 1)",
        ),
    ],
)
def test_a_file_that_was_not_written(tmp_path, make, name, fault):
    folder = make(tmp_path / "checkpoint-40", 40)
    (folder / name).unlink()
    assert fault in checkpoint.look(folder, 2).faults


@pytest.mark.parametrize("make", [plain, zero3])
def test_of_another_number_of_ranks(tmp_path, make):
    assert not checkpoint.look(make(tmp_path / "checkpoint-40", 40, ranks=4), 2).complete
    assert not checkpoint.look(make(tmp_path / "checkpoint-50", 50, ranks=2), 4).complete


def test_zero2_keeps_the_model_whole(tmp_path):
    folder = zero3(tmp_path / "checkpoint-40", 40)
    for rank in range(2):
        (folder / "global_step40" / f"zero_pp_rank_{rank}_mp_rank_00_model_states.pt").unlink()
    torch_file(folder / "global_step40" / "mp_rank_00_model_states.pt")
    assert checkpoint.look(folder, 2).complete


def test_a_shard_of_the_index_that_is_not_there(tmp_path):
    folder = plain(tmp_path / "checkpoint-40", 40)
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert checkpoint.look(folder, 2).faults == ("model-00002-of-00002.safetensors is missing",)


def test_the_newest_complete_one_is_chosen_by_its_step(tmp_path):
    for step in (5, 30, 100):
        plain(tmp_path / f"checkpoint-{step}", step)
    (tmp_path / "checkpoint-100" / "optimizer.pt").write_bytes(b"")
    assert checkpoint.last_complete(tmp_path, 2).step == 30
    assert checkpoint.last_complete(tmp_path, 2, since=4e9) is None
    assert checkpoint.last_complete(tmp_path / "none", 2) is None
    assert checkpoint.size(tmp_path / "checkpoint-30") > 1000
