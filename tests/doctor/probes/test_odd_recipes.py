"""Whatever a recipe holds under the keys that the world-facing probes read, they collect and judge without a crash."""

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from doctor.facts import Facts, UnknownFact
from doctor.probes import cli, conda, gpu, hub, launch_files, logging, machine, secrets, tools
from tests.support.worlds import world

KEYS = (
    "model_name_or_path", "model_revision", "adapter_name_or_path", "ref_model", "reward_model", "output_dir", "dataset_dir",
    "deepspeed", "template", "report_to", "use_swanlab", "bf16", "pure_bf16", "use_cpu", "tf32", "finetuning_type",
    "save_steps", "save_strategy", "save_total_limit", "save_only_model", "max_steps", "max_samples", "num_train_epochs",
    "per_device_train_batch_size", "gradient_accumulation_steps", "dataloader_num_workers", "push_to_hub",
)  # fmt: skip
ODD = ("auto", "none", "all", "full", "1e-5", "a/b", "../x", "~", "/", "\x00", "模型", "long" * 100, "~nobody-here/x")
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-10, 10**12), st.floats(allow_nan=True), st.text(max_size=12),
    st.sampled_from(ODD),
)  # fmt: skip
VALUES = st.one_of(SCALARS, st.lists(SCALARS, max_size=3), st.dictionaries(st.text(max_size=5), SCALARS, max_size=2))
PROBES = (gpu, machine, logging, secrets, cli, conda, tools, launch_files, hub)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=8))
def test_odd_values(values):
    with tempfile.TemporaryDirectory() as folder:
        target = world(Path(folder), offline=True)
        name = values.get("model_name_or_path")
        known = Facts({
            "recipe.path": "r.yaml", "recipe.values": values, "recipe.lines": {}, "packages.versions": {},
            "packages.cuda_builds": {}, "llamafactory.root": None, "deepspeed.config": None, "deepspeed.config_path": None,
            "launch.nproc": 1, "launch.nnodes": 1, "launch.force_torchrun": True, "launch.environ": {},
            "model.name": name if isinstance(name, str) else None, "model.kind": "hub", "model.cached_path": None,
            "model.parameters": 1e6,
        })  # fmt: skip
        for probe in PROBES:
            known = known.merged(probe.collect(target, known))
        for probe in PROBES:
            for judgement in probe.JUDGEMENTS:
                try:
                    list(judgement(known))
                except UnknownFact:
                    continue  # a fact that could not be read is an answer, too
