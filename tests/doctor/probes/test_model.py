import json

import msgspec
import pytest

from doctor.facts import Facts
from doctor.probes import adapter, model, recipe
from doctor.recipe import adapter_folder
from tests.doctor.recipe import standin


def examine(tmp_path, name, more="", **environ):
    made = standin.target(tmp_path, f"model_name_or_path: {name}\ndo_train: true\n{more}", **environ)
    return standin.examine(made, recipe, model)


def causes(found):
    return [f.cause for f in found]


def test_a_whole_local_model(tmp_path):
    standin.model(tmp_path / "m")
    facts, found = examine(tmp_path, "m")
    assert found == []
    assert (facts["model.local"], facts["model.complete"], facts["model.path"]) == (True, True, str(tmp_path / "m"))
    assert facts["model.parameters"] == 808


def test_a_hub_model_that_is_nowhere(tmp_path):
    facts, found = examine(tmp_path, "Qwen/Qwen2.5-32B-Instruct")
    assert found == []
    assert (facts["model.kind"], facts["model.complete"]) == ("hub", False)
    assert facts["model.parameters"] == 32_763_876_352
    assert facts["model.config"]["num_hidden_layers"] == 64


@pytest.mark.parametrize("missing", [None, "model.safetensors"])
def test_a_hub_model_in_the_cache(tmp_path, missing):
    repository = tmp_path / "home" / ".cache" / "huggingface" / "hub" / "models--org--toy"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    snapshot = standin.model(repository / "snapshots" / "abc")
    if missing:
        (snapshot / missing).unlink()
    facts, _ = examine(tmp_path, "org/toy")
    assert facts["model.complete"] is not bool(missing)
    assert facts["model.cached_path"] == (None if missing else str(snapshot))
    assert facts["model.cached"][0]["complete"] is not bool(missing)


def test_a_hub_model_in_the_modelscope_cache(tmp_path):
    folder = standin.model(tmp_path / "home" / ".cache" / "modelscope" / "hub" / "org" / "toy-1___5b")
    assert examine(tmp_path, "org/toy-1.5b")[0]["model.cached_path"] == str(folder)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("./models/toyy", "models/toy"),
        ("~/toy", "home/toy"),
        ("models\\toy", "models/toy"),
        ("/nowhere/x", None),
        ("models/x", None),
    ],
)
def test_paths_that_do_not_exist(tmp_path, name, nearest):
    standin.model(tmp_path / "models" / "toy")
    standin.model(tmp_path / "home" / "toy")
    found = examine(tmp_path, name)[1]
    assert causes(found) == ["model-path-not-found"]
    assert found[0].evidence[0].where == "recipe.yaml:1"
    assert found[0].details.get("nearest_path") == (str(tmp_path / nearest) if nearest else None)


def _index(folder, files):
    (folder / "model.safetensors").unlink()
    weights = {f"layer.{i}.weight": name for i, name in enumerate(files)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weights}))
    for i, name in enumerate(files):
        standin.safetensors(folder / name, {f"layer.{i}.weight": [2, 2]})


def _damage(folder, kind):
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    if kind in ("shard", "renamed", "index", "other tensors", "unfinished"):
        _index(folder, names)
    second = folder / names[1]
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    match kind:
        case "shard":
            second.unlink()
        case "unfinished":
            second.rename(second.with_name(names[1] + ".incomplete"))
        case "other tensors":
            standin.safetensors(second, {"another": [2, 2]})
        case "index":
            (folder / "model.safetensors.index.json").unlink()
        case "cut":
            standin.safetensors(folder / "model.safetensors", {"model.embed_tokens.weight": [12, 8]}, short_by=9)
        case "pointer":
            (folder / "model.safetensors").write_bytes(pointer)
        case "tokenizer pointer":
            (folder / "tokenizer.json").write_bytes(pointer)
        case "no weights":
            (folder / "model.safetensors").unlink()
        case "no config":
            (folder / "config.json").unlink()
        case "bad config":
            (folder / "config.json").write_text("{,}")
        case "no tokenizer":
            (folder / "tokenizer.json").unlink()
        case "bad tokenizer":
            (folder / "tokenizer.json").write_text('{"added_tokens": [')
        case "gguf":
            for path in folder.iterdir():
                path.unlink()
            (folder / "m.gguf").write_bytes(b"GGUF")
        case "adapter":
            (folder / "config.json").unlink()
            (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "org/base"}')
        case "ids":
            added = [standin.added_token(12, "<new>")]
            (folder / "tokenizer.json").write_text(json.dumps({"added_tokens": added, "model": {"vocab": {"a": 0}}}))
        case "rows":
            (folder / "config.json").write_text(json.dumps({**standin.QWEN2, "vocab_size": 20}))
        case "empty special":
            empty = {"__type": "AddedToken", "content": ""}
            (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": empty, "bos_token": "<s>"}))


@pytest.mark.parametrize(
    ("kind", "cause", "text"),
    [
        ("shard", "model-shards-missing", "not there"),
        ("unfinished", "model-shards-missing", ".incomplete"),
        ("other tensors", "model-shards-missing", "1 tensors of the index"),
        ("index", "model-shards-missing", "2 shards are there"),
        ("cut", "model-corrupt-safetensors", "cut off"),
        ("pointer", "model-lfs-pointer", "git-lfs"),
        ("tokenizer pointer", "model-lfs-pointer", "git-lfs"),
        ("no weights", "model-shards-missing", "no weights"),
        ("no config", "model-incomplete-download", "no config.json"),
        ("bad config", "model-config-invalid-json", "not JSON"),
        ("no tokenizer", "tok-file-missing", "tokenizer.json"),
        ("bad tokenizer", "tok-load-failed", "tokenizer.json"),
        ("gguf", "model-not-hf-format", "gguf"),
        ("adapter", "model-incomplete-download", "LoRA adapter"),
        ("ids", "tok-ids-out-of-range", "12"),
        ("rows", "model-config-weights-mismatch", "20"),
        ("empty special", "tok-special-tokens-empty", "eos_token"),
    ],
)
def test_damage_is_named(tmp_path, kind, cause, text):
    _damage(standin.model(tmp_path / "m"), kind)
    facts, found = examine(tmp_path, "m")
    assert causes(found) == [cause]
    assert text in found[0].evidence[0].what
    harmless = ("ids", "rows", "empty special", "bad tokenizer")
    assert facts["model.complete"] is (kind in harmless)


def test_a_cache_folder_instead_of_its_snapshot(tmp_path):
    standin.model(tmp_path / "models--org--toy" / "snapshots" / "abc")
    found = examine(tmp_path, "./models--org--toy")[1]
    assert causes(found) == ["model-incomplete-download"]
    assert found[0].details["snapshot_path"].endswith("snapshots/abc")


def test_a_weight_file_instead_of_a_folder(tmp_path):
    standin.model(tmp_path / "m")
    found = examine(tmp_path, "m/model.safetensors")[1]
    assert causes(found) == ["model-config-invalid-json"]
    assert found[0].details["model_folder"] == "m"


def test_a_resized_vocabulary_is_no_fault(tmp_path):
    _damage(standin.model(tmp_path / "m"), "ids")
    assert examine(tmp_path, "m", "resize_vocab: true\n")[1] == []


def test_no_model_named(tmp_path):
    made = standin.target(tmp_path, "do_train: true\n")
    assert standin.examine(made, recipe, model)[1] == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"num_hidden_layers": 2}, "layers 2 by config.json, 1 in the weights"),
        ({"hidden_size": 16}, "hidden_size 16 by config.json, 8 in the weights"),
        ({"num_attention_heads": 4, "head_dim": 4}, "rows of q_proj 16 by config.json, 8 in the weights"),
    ],
)
def test_a_configuration_of_other_weights(tmp_path, changed, said):
    standin.model(tmp_path / "m", {**standin.QWEN2, **changed})
    found = [f for f in examine(tmp_path, "m")[1] if f.cause == "model-config-weights-mismatch"]
    assert said in found[0].evidence[0].what


def test_shapes_of_unknown_architectures_and_of_quantised_weights_are_not_judged(tmp_path):
    standin.model(tmp_path / "m", {**standin.QWEN2, "num_hidden_layers": 2, "model_type": "deepseek_v3"})
    standin.model(tmp_path / "q", {**standin.QWEN2, "num_hidden_layers": 2, "quantization_config": {"bits": 4}})
    assert causes(examine(tmp_path, "m")[1]) == causes(examine(tmp_path, "q")[1]) == []


def adapter_found(tmp_path, name="saves/adapter"):
    made = standin.target(tmp_path, f"model_name_or_path: m\nadapter_name_or_path: {name}\n")
    return [f.cause for f in standin.examine(made, recipe, model, adapter)[1]]


@pytest.mark.parametrize(("width", "expected"), [(8, []), (16, ["peft-adapter-mismatch"])])
def test_an_adapter_of_another_width(tmp_path, width, expected):
    standin.model(tmp_path / "m")
    folder = tmp_path / "saves/adapter"
    folder.mkdir(parents=True)
    config = {"peft_type": "LORA", "r": 2, "base_model_name_or_path": "org/other"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    standin.safetensors(folder / "adapter_model.safetensors", {name: [2, width], name.replace("_A.", "_B."): [8, 2]})
    assert adapter_found(tmp_path) == expected


def test_a_customary_folder_is_no_hub_id(tmp_path):
    standin.model(tmp_path / "m")
    assert adapter_found(tmp_path) == ["peft-adapter-path-wrong"]
    assert adapter_found(tmp_path, "org/adapter") == []


def test_a_configuration_without_model_type(tmp_path):
    standin.model(tmp_path / "m", {key: value for key, value in standin.QWEN2.items() if key != "model_type"})
    assert causes(examine(tmp_path, "m")[1]) == ["model-incomplete-download"]


@pytest.mark.parametrize(("layers", "told"), [([9], 1), (9, 1), ([0, 9], 0), ([1], 0), (None, 0)])
def test_an_adapter_of_layers_that_the_model_has_not(tmp_path, layers, told):
    folder = tmp_path / "a"
    folder.mkdir()
    given = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "layers_to_transform": layers}
    (folder / "adapter_config.json").write_text(json.dumps(given))
    held = msgspec.to_builtins(adapter_folder.inspect("a", folder))
    known = {"model.config": {"num_hidden_layers": 2}, "adapter.adapters": [held]}
    assert [f.cause for f in adapter.layers_there(Facts(known))] == ["peft-adapter-mismatch"] * told


@pytest.mark.parametrize(
    ("beside", "told"),
    [("model.safetensors.aria2", 1), ("other.safetensors.aria2", 0), ("model.safetensors.incomplete", 0)],
)
def test_a_control_file_of_aria2_means_that_the_file_beside_it_is_not_whole(tmp_path, beside, told):
    folder = standin.model(tmp_path / "m")
    (folder / beside).write_bytes(b"\0\1")
    assert causes(examine(tmp_path, "m")[1]) == ["model-incomplete-download"] * told


def test_a_link_whose_target_is_gone_is_no_hub_id(tmp_path):
    (tmp_path / "m").symlink_to(tmp_path / "elsewhere")
    assert causes(examine(tmp_path, "m")[1]) == ["model-path-not-found"]
