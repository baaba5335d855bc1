"""The launcher that USE_V1=1 starts has arguments of its own: recipes of either, started with either."""

import pytest

from doctor.probes import arguments, llamafactory, recipe, template
from tests.doctor.recipe import standin

USUAL = "model_name_or_path: org/toy\ndo_train: true\ntemplate: toy\ndataset: d\noutput_dir: out\n"
NEW = """
model: org/toy
model_class: llm
template: toy_nothink
train_dataset: data/new.yaml
dist_config:
  name: fsdp2
micro_batch_size: 2
batching_strategy: normal
learning_rate: 1.0e-4
"""
FILES = {
    "arg_utils.py": '''
class Strategy(StrEnum):
    NORMAL = "normal"
    DYNAMIC = "dynamic"
''',
    "model_args.py": '''
from .arg_utils import Plugin
@dataclass
class ModelArguments:
    model: str = field(default="org/toy")
    template: str = field(default="toy")
    model_class: Attention = field(default=Attention.LLM)
''',
    "training_args.py": '''
from .arg_utils import Strategy
@dataclass
class TrainingArguments:
    train_dataset: str | None = field(default=None)
    micro_batch_size: int = field(default=1)
    learning_rate: float = field(default=1e-4)
    max_steps: int | None = field(default=None)
    dist_config: Plugin | None = field(default=None)
    batching_strategy: Strategy = field(default=Strategy.NORMAL)
    def __post_init__(self):
        if str(self.batching_strategy) == str(Strategy.DYNAMIC):
            if self.max_steps is None:
                raise ValueError("`dynamic` requires `max_steps`.")
''',
    "arg_parser.py": '''
from omegaconf import OmegaConf
from .model_args import ModelArguments
from .training_args import TrainingArguments
def get_args(args=None):
    parser = HfArgumentParser([ModelArguments, TrainingArguments])
''',
}  # fmt: skip


def examine(folder, text, with_new=True, **environ):
    made = standin.target(folder, text, **environ)
    config = folder / "site-packages" / "llamafactory" / "v1" / "config"
    if with_new:
        config.mkdir(parents=True)
        (config.parent / "utils").mkdir()
        (config.parent / "utils" / "types.py").write_text('class Attention(StrEnum):\n    LLM = "llm"\n')
        for name, content in FILES.items():
            (config / name).write_text(content)
    more = {"packages.versions": {}, "launch.force_torchrun": True, "launch.environ": {}, "gpu.count": 0}
    return standin.examine(made, recipe, llamafactory, arguments, template, more=more)


@pytest.mark.parametrize(
    ("text", "environ", "with_new", "details"),
    [
        (NEW, {}, True, {"has_new": True}),
        (NEW, {}, False, {"without_new": True}),
        (NEW, {"USE_V1": "1"}, False, {"without_new": True}),
        (USUAL, {"USE_V1": "1"}, True, {"starts_new": True}),
    ],
)
def test_a_recipe_of_the_other_launcher_is_one_finding(tmp_path, text, environ, with_new, details):
    _, (found,) = examine(tmp_path, text, with_new, **environ)
    assert found.cause == "cfg-other-launcher"
    assert found.details.items() >= details.items()


@pytest.mark.parametrize(
    ("text", "environ", "with_new"),
    [(NEW, {"USE_V1": "1"}, True), (USUAL, {}, True), (USUAL, {"USE_V1": "0"}, True), (USUAL, {"USE_V1": "1"}, False)],
)
def test_a_recipe_of_the_launcher_that_starts_gives_nothing(tmp_path, text, environ, with_new):
    assert examine(tmp_path, text, with_new, **environ)[1] == []


@pytest.mark.parametrize(
    ("line", "cause", "details"),
    [
        ("micro_batch_sizes: 2", "cfg-unknown-key", {"nearest": "micro_batch_size"}),
        ("batching_strategy: dynamics", "cfg-invalid-choice", {"nearest": "dynamic"}),
        ("max_steps: ten", "cfg-bad-value-type", {}),
        ("batching_strategy: dynamic", "cfg-conflicting-args", {}),
    ],
)
def test_the_new_launchers_own_classes_judge(tmp_path, line, cause, details):
    text = "\n".join(x for x in NEW.splitlines() if not x.startswith(line.split(":")[0] + ":")) + f"\n{line}\n"
    _, (found,) = examine(tmp_path, text, USE_V1="1")
    assert found.cause == cause
    assert found.details.items() >= details.items()


def test_one_key_of_the_new_launcher_is_a_slip_in_a_usual_recipe(tmp_path):
    _, found = examine(tmp_path, "micro_batch_size: 2\n" + USUAL)
    assert [f.cause for f in found] == ["cfg-unknown-key"]
