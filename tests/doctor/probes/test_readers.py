import pytest

from doctor.facts import Facts
from doctor.probes import readers
from tests.support.worlds import world

OLD = {"torch": "2.5.1", "transformers": "4.52.4", "tokenizers": "0.21.0"}


def collected(tmp_path, versions, merges='["a b"]', states=(), **more):
    made = world(tmp_path)
    model = tmp_path / "model"
    model.mkdir()
    (model / "tokenizer.json").write_text(f'{{"model": {{"merges": {merges}}}}}')
    resume = {"torch_files": list(states), "key": "resume_from_checkpoint"} if states else None
    known = Facts(
        {
            "recipe.path": "r.yaml",
            "recipe.lines": {},
            "packages.versions": versions,
            "model.local": True,
            "model.path": str(model),
            "model.weights": {"format": "safetensors"},
            "arguments.resume": resume,
            **more,
        }
    )
    return known.merged(readers.collect(made, known))


def found(*args, **more):
    facts = collected(*args, **more)
    return [finding.cause for rule in readers.JUDGEMENTS for finding in rule(facts)]


@pytest.mark.parametrize(
    ("version", "merges", "causes"),
    [
        ("0.19.1", '[ ["a", "b"]]', ["tok-tokenizers-too-old"]),
        ("0.19.1", '["a b"]', []),
        ("0.20.0", '[["a", "b"]]', []),
    ],
)
def test_merges_as_newer_releases_write_them(tmp_path, version, merges, causes):
    assert found(tmp_path, {"tokenizers": version}, merges) == causes


def test_weights_that_torch_load_reads(tmp_path):
    assert found(tmp_path, OLD, **{"model.weights": {"format": "bin"}}) == ["ckpt-torch-load-needs-2.6"]


@pytest.mark.parametrize(
    ("versions", "causes"),
    [
        (OLD, ["ckpt-torch-load-needs-2.6"]),
        ({**OLD, "transformers": "4.51.3"}, []),
        ({**OLD, "torch": "2.6.0"}, []),
        ({**OLD, "torch": "2.6.0", "transformers": "4.46.1"}, ["ckpt-torch-load-weights-only"]),
    ],
)
def test_states_of_a_resumed_run(tmp_path, versions, causes):
    assert found(tmp_path, versions, states=("rng_state.pth", "optimizer.pt")) == causes


def test_nothing_is_resumed(tmp_path):
    assert found(tmp_path, OLD) == []


def test_the_user_allows_it(tmp_path):
    environ = {"launch.environ": {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}}
    versions = {**OLD, "torch": "2.6.0", "transformers": "4.46.1"}
    assert found(tmp_path, versions, states=("rng_state.pth",), **environ) == []
