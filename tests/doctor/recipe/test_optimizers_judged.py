import pytest

from doctor.facts import Facts
from doctor.recipe import optimizers_judged

FIELDS = ["half_precision_backend", "optim", "optim_target_modules", "use_liger_kernel"]


def found(values, **installed):
    facts = Facts({
        "recipe.values": values, "recipe.path": "r.yaml", "arguments.fields": FIELDS,
        "packages.versions": {name.replace("_", "-"): version for name, version in installed.items()},
    })  # fmt: skip
    return [f for judgement in optimizers_judged.ALL for f in judgement(facts)]


@pytest.mark.parametrize(
    ("optim", "package", "on_pypi"),
    [("lomo", "lomo-optim", True), ("schedule_free_adamw", "schedulefree", True), ("adamw_apex_fused", "apex", False),
     ("adamw_torch_4bit", "torchao", True), ("adamw_torch_xla", "torch-xla", False)],
)  # fmt: skip
def test_packages_of_optimizers(optim, package, on_pypi):
    (finding,) = found({"optim": optim})
    assert (finding.cause, finding.details["module"]) == ("pkg-missing", package)
    assert ("distribution" in finding.details) is on_pypi
    assert not found({"optim": optim}, **{package.replace("-", "_"): "1.0"})


@pytest.mark.parametrize("optim", ["adamw_torch", "adamw_torch_fused", "adafactor", "sgd", "paged_adamw_8bit"])
def test_optimizers_of_torch(optim):
    assert not found({"optim": optim})


def test_galore_by_optim_needs_its_modules():
    assert [f.cause for f in found({"optim": "galore_adamw"}, galore_torch="1.0")] == ["cfg-missing-argument"]
    assert not found({"optim": "galore_adamw", "optim_target_modules": ["attn"]}, galore_torch="1.0")


def test_apex_is_looked_for_in_mixed_precision_alone():
    apex = {"half_precision_backend": "apex"}
    assert not found(apex)
    assert not found({**apex, "fp16": True, "deepspeed": "ds.json"})
    assert [f.cause for f in found({**apex, "fp16": True})] == ["pkg-missing"]


def test_liger_of_the_trainer():
    assert [f.cause for f in found({"use_liger_kernel": True})] == ["pkg-missing"]
    assert not found({"use_liger_kernel": True}, liger_kernel="0.5")
