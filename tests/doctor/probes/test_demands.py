import pytest

from doctor.facts import Facts
from doctor.probes import demands
from tests.support.worlds import world

LATER = {
    "train/ppo/trainer.py": 'require_version(\n    "trl>=0.8.6,<=0.9.6",\n    "Incompatible TRL")\n',
    "data/loader.py": "dataset.to_iterable_dataset(num_shards=training_args.dataloader_num_workers)\n",
    "model/model_utils/longlora.py": 'check_version("transformers>=4.45.0,<4.48.0", mandatory=True)\n',
    "model/model_utils/moe.py": 'def add_z3_leaf_module(model):\n    if model_type == "mixtral":\n        pass\n',
}
ROWS = {"Sky-T1": {"complete": True, "read": 16}}


def collected(tmp_path, values, files=LATER, **more):
    package = tmp_path / "llamafactory"
    for name, text in files.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    around = {
        "recipe.path": "r.yaml",
        "recipe.lines": {},
        "recipe.values": values,
        "llamafactory.root": str(package),
        "llamafactory.version": "0.9.5",
        "packages.versions": {"trl": "0.24.0", "transformers": "4.57.1"},
        "dataset.entries": {"Sky-T1": {"files": [{"path": "x"}]}},
        "records.scans": ROWS,
        "model.config": {"model_type": "qwen2"},
        "deepspeed.config_path": None,
        **more,
    }
    known = Facts(around)
    return known.merged(demands.collect(world(tmp_path), known))


def found(tmp_path, values, **more):
    facts = collected(tmp_path, values, **more)
    return [finding.cause for rule in demands.JUDGEMENTS for finding in rule(facts)]


def test_the_trl_of_ppo(tmp_path):
    assert found(tmp_path, {"stage": "ppo"}) == ["pkg-trl-mismatch"]
    assert found(tmp_path, {"stage": "sft"}) == []
    assert found(tmp_path, {"stage": "ppo"}, **{"packages.versions": {"trl": "0.9.6"}}) == []


def test_the_transformers_of_shifted_attention(tmp_path):
    llama = {"model.config": {"model_type": "llama"}}
    assert found(tmp_path, {"shift_attn": True}, **llama) == ["pkg-version-out-of-range"]
    assert found(tmp_path, {"shift_attn": True}) == []  # other models train without it, which is said elsewhere


@pytest.mark.parametrize(("workers", "causes"), [({}, 1), (0, 1), (4, 0), (16, 0), (17, 1)])
def test_shards_of_a_stream(tmp_path, workers, causes):
    values = {"streaming": True} | ({"dataloader_num_workers": workers} if workers != {} else {})
    assert found(tmp_path, values) == ["data-streaming-workers"] * causes
    assert found(tmp_path, {**values, "streaming": False}) == []


def test_a_release_that_cuts_no_shards_or_data_of_a_hub(tmp_path):
    assert found(tmp_path, {"streaming": True}, **{"dataset.entries": {"Sky-T1": {"files": []}}}) == []
    assert found(tmp_path, {"streaming": True}, files={"data/loader.py": "dataset.to_iterable_dataset()\n"}) == []


def test_experts_that_nobody_marks_for_zero3(tmp_path):
    zero3 = {
        "deepspeed.config_path": "ds.json",
        "deepspeed.config": {"zero_optimization": {"stage": 3}},
        "launch.world_size": 8,
        "model.config": {"model_type": "qwen2_moe", "num_experts": 60},
    }
    assert found(tmp_path, {}, **zero3) == ["ds-zero3-moe-hang"]
    assert found(tmp_path, {}, **{**zero3, "launch.world_size": 1}) == []
    assert found(tmp_path, {}, **{**zero3, "deepspeed.config": {"zero_optimization": {"stage": 2}}}) == []
    assert found(tmp_path, {}, **{**zero3, "model.config": {"model_type": "mixtral", "num_local_experts": 8}}) == []
    assert found(tmp_path, {}, **{**zero3, "packages.versions": {"transformers": "5.6.0"}}) == []


def test_batches_with_and_without_an_image(tmp_path):
    zero3 = {
        "deepspeed.config_path": "ds.json",
        "deepspeed.config": {"zero_optimization": {"stage": 3}},
        "launch.world_size": 8,
        "dataset.entries": {"seen": {"files": [], "columns": {"images": "pictures"}}},
        "records.scans": {"seen": {"complete": True, "read": 10, "columns": {"pictures": 6}}},
    }
    assert found(tmp_path, {}, **zero3) == ["train-hang-mixed-modality"]
    whole = {"seen": {"complete": True, "read": 10, "columns": {"pictures": 10}}}
    assert found(tmp_path, {}, **{**zero3, "records.scans": whole}) == []
    both = {**zero3["dataset.entries"], "read": {"files": [], "columns": {}}}
    assert found(tmp_path, {}, **{**zero3, "records.scans": whole, "dataset.entries": both}) == [
        "train-hang-mixed-modality"
    ]
    newer = {**LATER, "data/collator.py": "fake_input_ids = []\n"}
    assert found(tmp_path, {}, files=newer, **zero3) == []
    assert found(tmp_path, {}, **{**zero3, "launch.world_size": 1}) == []
