from doctor.facts import Facts
from doctor.recipe import companion_models
from knowledge_base.schema import Severity

PPO = {"stage": "ppo", "reward_model": "saves/reward"}


def told(tmp_path, **values):
    return companion_models.companions({**PPO, **values}, tmp_path)


def found(companions):
    facts = Facts({"recipe.path": "r.yaml", "recipe.lines": {}, "arguments.companions": companions})
    return [(f.cause, f.severity) for rule in companion_models.ALL for f in rule(facts)]


def test_models_beside_the_trained_one(tmp_path):
    (tmp_path / "saves/reward").mkdir(parents=True)
    assert told(tmp_path)["reward_model"]["lacks"] == "has no adapter_config.json"
    assert found(told(tmp_path)) == [("peft-adapter-path-wrong", None)]
    (tmp_path / "saves/reward/adapter_config.json").write_text("{}")
    (tmp_path / "saves/reward/value_head.safetensors").write_text("")
    assert not told(tmp_path)
    assert not told(tmp_path, stage="sft", reward_model="saves/none")
    assert not told(tmp_path, stage="dpo", ref_model="org/on-the-hub")
    assert told(tmp_path, stage="dpo", ref_model="./none")["ref_model"]["adapter"] is False
    assert not told(tmp_path, reward_model="http://localhost:8000", reward_model_type="api")


def test_a_reward_model_without_a_value_head(tmp_path):
    folder = tmp_path / "saves/reward"
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text("{}")
    (folder / "config.json").write_text("{}")
    assert found(told(tmp_path)) == [("train-reward-model-not-loaded", None)]
    assert found(told(tmp_path, reward_model_type="full")) == [("train-reward-model-not-loaded", Severity.WARNING)]
    (folder / "value_head.bin").write_text("")
    assert found(told(tmp_path, reward_model_type="full")) == []
