"""DeepSpeed's own classes, read from source, refuse what pydantic would refuse, and no more."""

import pytest

from doctor.recipe import deepspeed_classes

ZERO = """
class ZeroStageEnum(int, Enum):
    disabled = 0
    weights = 3

class DeepSpeedZeroConfig(DeepSpeedConfigModel):
    stage: ZeroStageEnum = 0
    overlap_comm: Optional[bool] = None
    reduce_bucket_size: int = Field(pp_int(5e8), ge=0)
    prefetch_bucket_size: int = Field(pp_int(5e7), ge=0, alias="stage3_prefetch_bucket_size")
    offload_optimizer: Optional[DeepSpeedZeroOffloadOptimizerConfig] = None
"""
OFFLOAD = """
class OffloadDeviceEnum(str, Enum):
    none = "none"
    cpu = "cpu"

class DeepSpeedZeroOffloadOptimizerConfig(DeepSpeedConfigModel):
    device: OffloadDeviceEnum = "none"
    pin_memory: bool = False
    ratio: float = Field(1.0, ge=0.0, le=1.0)
"""


@pytest.fixture
def classes(tmp_path):
    zero = tmp_path / "runtime/zero"
    zero.mkdir(parents=True)
    (zero / "config.py").write_text(ZERO)
    (zero / "offload_config.py").write_text(OFFLOAD)
    return deepspeed_classes.read(tmp_path)


@pytest.mark.parametrize(
    ("zero", "path", "kind", "meant"),
    [
        ({"stage": 4}, "stage", deepspeed_classes.CHOICE, 3),
        ({"overlapp_comm": True}, "overlapp_comm", deepspeed_classes.UNKNOWN, "overlap_comm"),
        ({"reduce_bucket_size": "large"}, "reduce_bucket_size", deepspeed_classes.WRONG_TYPE, None),
        ({"reduce_bucket_size": -1}, "reduce_bucket_size", deepspeed_classes.RANGE, None),
        ({"reduce_bucket_size": None}, "reduce_bucket_size", deepspeed_classes.WRONG_TYPE, None),
        ({"stage3_prefetch_bucket_size": 3686.4}, "stage3_prefetch_bucket_size", deepspeed_classes.FRACTION, 3686),
        ({"overlap_comm": "maybe"}, "overlap_comm", deepspeed_classes.WRONG_TYPE, None),
        ({"offload_optimizer": "cpu"}, "offload_optimizer", deepspeed_classes.WRONG_TYPE, None),
        ({"offload_optimizer": {"device": "gpu"}}, "offload_optimizer.device", deepspeed_classes.CHOICE, "cpu"),
        ({"offload_optimizer": {"ratio": 2}}, "offload_optimizer.ratio", deepspeed_classes.RANGE, None),
    ],
)
def test_what_is_refused(classes, zero, path, kind, meant):
    (refused,) = deepspeed_classes.refused({"zero_optimization": zero}, classes)
    assert (refused.path, refused.kind, refused.meant) == (f"zero_optimization.{path}", kind, meant)


@pytest.mark.parametrize(
    "config",
    [
        {"zero_optimization": {"stage": "auto", "reduce_bucket_size": 5e8, "overlap_comm": "on"}},
        {"zero_optimization": {"stage": "3", "prefetch_bucket_size": "5", "overlap_comm": None}},
        {"zero_optimization": {"offload_optimizer": {"device": "none", "pin_memory": 1}}},
        {"zero_optimization": True},
        {"train_batch_size": "auto", "unknown": 1},
    ],
)
def test_what_is_taken(classes, config):
    assert deepspeed_classes.refused(config, classes) == []


def test_a_part_that_is_no_object_becomes_one(classes):
    (refused,) = deepspeed_classes.refused({"zero_optimization": 2}, classes)
    assert refused.meant == {"stage": 2}
