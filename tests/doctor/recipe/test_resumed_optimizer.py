import json

import pytest

from doctor.recipe import resumed_optimizer
from doctor.recipe.safetensors_header import Tensor
from tests.doctor.recipe import torch_written
from tests.doctor.recipe.torch_written import Saved

WEIGHTS = {"norm.weight": Tensor("F32", [8], (0, 32)), "proj.weight": Tensor("F32", [8, 4], (32, 160))}


def group(*numbers):
    return {"params": list(numbers), "lr": 0.1, "betas": (0.9, 0.99)}


def state(*shapes):
    return {n: {"step": 1, "exp_avg": Saved(shape)} for n, shape in enumerate(shapes)}


def held(tmp_path, content, tensors=WEIGHTS, **values):
    torch_written.write(tmp_path / "optimizer.pt", content)
    said = list(resumed_optimizer.damaged(tmp_path / "optimizer.pt"))
    return said or list(resumed_optimizer.faults(tmp_path, {"finetuning_type": "full", **values}, tensors))


WHOLE = {"state": state((8, 4), (8,)), "param_groups": [group(0), group(1)]}


def test_that_of_this_run(tmp_path):
    assert held(tmp_path, WHOLE) == []


@pytest.mark.parametrize("content", [{"a": 1}, [1], {"state": {}}, {**WHOLE, "param_groups": [group(0), group()]}])
def test_what_is_no_state(tmp_path, content):
    assert "optimizer.pt" in held(tmp_path, content)[0]


def test_groups_of_another_run(tmp_path):
    one = {**WHOLE, "param_groups": [group(0, 1)]}
    assert "1 groups" in held(tmp_path, one)[0]
    assert "this run has 4 with loraplus_lr_ratio" in held(tmp_path, WHOLE, loraplus_lr_ratio=16)[0]
    for values in ({"use_galore": True}, {"optim": "lomo"}, {"optim_target_modules": "all"}):
        assert held(tmp_path, one, **values) == []


def test_parameters_of_other_shapes(tmp_path):
    assert "[3]" in held(tmp_path, {**WHOLE, "state": state((8, 4), (3,))})[0]
    assert held(tmp_path, {**WHOLE, "state": state((8, 4), (3,))}, {}) == []  # weights that are not read here


@pytest.mark.parametrize(
    ("saved", "given", "fault"),
    [([], "lm_head", True), (["lm_head"], "lm_head", False), (["score"], None, True), (["lm_head"], None, False),
     (None, None, False), ({"a": 1}, None, False)],
)  # fmt: skip
def test_modules_that_are_trained_whole(tmp_path, saved, given, fault):
    config = {"target_modules": ["q_proj"], "modules_to_save": saved}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    said = held(tmp_path, WHOLE, finetuning_type="lora", additional_target=given)
    assert bool(said) is fault
