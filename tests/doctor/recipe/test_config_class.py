import pytest

from doctor.recipe import config_class

STRICT = """
class ToyConfig(PreTrainedConfig):
    model_type = "toy"
    attribute_map = {"num_hidden_layers": "n_layer"}
    n_layer: int = 2
    rope: RopeParameters | dict | None = None
    use_cache: bool = True
    eps: float | int = 1e-6
    eos_token_id: int | list[int] | None = None
    kind: Literal["a", "b"] | None = None
"""
PLAIN = """
class ToyConfig(PretrainedConfig):
    model_type = "toy"
    def __init__(self, n_layer=2, rope=None, use_cache=True, **kwargs):
        self.n_layer = n_layer
"""


def read(tmp_path, source):
    folder = tmp_path / "models/toy"
    folder.mkdir(parents=True)
    (folder / "configuration_toy.py").write_text(source)
    (tmp_path / "configuration_utils.py").write_text("")
    return config_class.read(tmp_path, "toy")


def test_defaults_and_names(tmp_path):
    found = read(tmp_path, STRICT)
    assert found.defaults["n_layer"] == 2
    assert found.renamed == {"num_hidden_layers": "n_layer"}
    assert "rope" not in found.types  # not of plain types alone


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"n_layer": 3, "eps": 1, "eos_token_id": [1], "kind": "a", "other": object()}, ""),
        ({"n_layer": "3"}, "n_layer is '3'"),
        ({"n_layer": None}, "n_layer is 'None'"),
        ({"use_cache": "true"}, "use_cache"),
        ({"eos_token_id": "2"}, "int or list or None"),
        ({"eos_token_id": float("inf")}, "eos_token_id"),
        ({"kind": "c"}, "takes a, b"),
    ],
)
def test_a_strict_class(tmp_path, config, said):
    found = list(config_class.misfits(read(tmp_path, STRICT), config))
    assert len(found) == bool(said)
    assert not said or said in found[0]


def test_a_plain_class_takes_anything(tmp_path):
    found = read(tmp_path, PLAIN)
    assert found.defaults == {"n_layer": 2, "rope": None, "use_cache": True}
    assert list(config_class.misfits(found, {"n_layer": "3"})) == []


def test_a_type_that_is_not_there(tmp_path):
    assert config_class.read(tmp_path, "../other").defaults == {}


@pytest.mark.parametrize("kind", ["a" * 5000, "a/b", "", "no\0name"])
def test_a_type_that_names_no_folder(tmp_path, kind):
    assert config_class.folder_of(tmp_path, kind) is None
