import pytest

from doctor.probes import llamafactory, recipe, variables
from knowledge_base.schema import Severity
from tests.doctor.recipe import standin

MORE = {"packages.versions": {"transformers": "4.46.1"}, "llamafactory.version": "0.9.5",
        "launch.force_torchrun": True, "launch.world_size": 1}  # fmt: skip


def found(tmp_path, more=None, lines="model_name_or_path: m\n", **environ):
    made = standin.target(tmp_path, lines, **environ)
    facts = standin.examine(made, recipe, llamafactory, variables, more=MORE)[0].merged({**MORE, **(more or {})})
    return [f for judgement in variables.JUDGEMENTS for f in judgement(facts)]


@pytest.mark.parametrize(
    ("name", "bad", "good"),
    [
        ("HF_DATASETS_IN_MEMORY_MAX_SIZE", "1GB", "1e9"),
        ("HF_HUB_DOWNLOAD_TIMEOUT", "10s", "10"),
        ("LLAMAFACTORY_VERBOSITY", "LOUD", "DEBUG"),
        ("ACCELERATE_LOG_LEVEL", "LOUD", "warning"),
        ("TORCH_DISTRIBUTED_DEBUG", "FULL", "DETAIL"),
        ("DS_ACCELERATOR", "gpu", "cuda"),
        ("MPLBACKEND", "TkAgg2", "module://matplotlib_inline.backend_inline"),
        ("ACCELERATE_DYNAMO_BACKEND", "foo", "INDUCTOR"),
        ("ACCELERATE_USE_DEEPSPEED", "true", "false"),
        ("ACCELERATE_USE_CPU", "perhaps", "yes"),
        ("ACCELERATE_MIXED_PRECISION", "float16", "fp16"),
        ("PYTHONOPTIMIZE", "2", "1"),
        ("ACCELERATE_USE_MEGATRON_LM", "true", "false"),
        ("PYTHONWARNINGS", "error", "ignore,error::DeprecationWarning:mine"),
        ("PYTHONWARNINGS", "ignore,error::UserWarning", "error::UserWarning:mine"),
        ("TQDM_MININTERVAL", "often", "0.5"),
        ("TQDM_NCOLS", "80.5", "80"),
        ("USE_TF", "1", "0"),
        ("USE_TORCH", "0", "AUTO"),
    ],
)
def test_values_that_their_readers_cannot_use(tmp_path, name, bad, good):
    (finding,) = found(tmp_path, **{name: bad})
    assert (finding.cause, finding.evidence[0].where) == ("launch-variable-invalid", name)
    assert not found(tmp_path, **{name: good})


def test_transformers_5_knows_torch_alone(tmp_path):
    assert not found(tmp_path, {"packages.versions": {"transformers": "5.6.0"}}, USE_TF="1")


def test_switches_need_their_packages(tmp_path):
    (finding,) = found(tmp_path, USE_RAY="1")
    assert (finding.cause, finding.details["distribution"]) == ("pkg-missing", "ray")
    assert not found(tmp_path, USE_RAY="0")
    assert not found(tmp_path, {"packages.versions": {"transformers": "4.46.1", "ray": "2"}}, USE_RAY="1")
    assert not found(tmp_path, {"llamafactory.version": "0.9.1"}, USE_RAY="1")  # which does not read it


def test_deepspeed_of_the_recipe_is_no_rest_of_another_launch(tmp_path):
    assert not found(tmp_path, lines="deepspeed: ds.json\n", ACCELERATE_USE_DEEPSPEED="true")


def test_elastic_launch(tmp_path):
    assert [f.evidence[0].where for f in found(tmp_path, RDZV_ID="x", MAX_RESTARTS="many")] == ["MAX_RESTARTS"]
    assert [f.evidence[0].where for f in found(tmp_path, RDZV_ID="x", MIN_NNODES="2", MAX_NNODES="1")] == ["MIN_NNODES"]
    assert not found(tmp_path, RDZV_ID="x", MIN_NNODES="1", MAX_NNODES="2", MAX_RESTARTS="3")
    assert not found(tmp_path, MAX_RESTARTS="many")  # read with RDZV_ID alone


def test_an_interface_that_is_not_there(tmp_path):
    there = {"variables.interfaces": ["eth0", "lo"]}
    assert [f.cause for f in found(tmp_path, there, GLOO_SOCKET_IFNAME="eth9")] == ["nccl-socket-ifname"]
    assert not found(tmp_path, there, GLOO_SOCKET_IFNAME="eth0")
    assert not found(tmp_path, {**there, "launch.force_torchrun": False}, GLOO_SOCKET_IFNAME="eth9")


@pytest.mark.parametrize(("value", "named"), [("eth9", 1), ("=eth", 1), ("eth", 0), ("^docker", 0), ("ib0,eth0", 0)])
def test_nccl_takes_prefixes_and_one_interface_is_enough(tmp_path, value, named):
    there = {"variables.interfaces": ["eth0", "lo"], "gpu.count": 1}
    assert [f.cause for f in found(tmp_path, there, NCCL_SOCKET_IFNAME=value)] == ["nccl-socket-ifname"] * named
    assert not found(tmp_path, {**there, "gpu.count": 0}, NCCL_SOCKET_IFNAME=value)


def test_certificates_that_are_not_there(tmp_path):
    (finding,) = found(tmp_path, {"llamafactory.version": "0.9.1"}, SSL_CERT_FILE="none.pem")
    assert (finding.cause, finding.severity) == ("hub-ssl", None)
    (milder,) = found(tmp_path, SSL_CERT_FILE="none.pem")
    assert milder.severity is Severity.WARNING
    (tmp_path / "own.pem").write_text("")
    assert not found(tmp_path, SSL_CERT_FILE="own.pem")


def test_an_accelerator_that_is_not_there(tmp_path):
    zero = "model_name_or_path: m\ndeepspeed: ds.json\n"
    none, one = {"gpu.count": 0}, {"gpu.count": 1}
    (finding,) = found(tmp_path, none, zero, DS_ACCELERATOR="cuda")
    assert (finding.cause, finding.evidence[0].where) == ("launch-variable-invalid", "DS_ACCELERATOR")
    assert not found(tmp_path, one, zero, DS_ACCELERATOR="cuda")
    assert not found(tmp_path, none, DS_ACCELERATOR="cuda")


@pytest.mark.parametrize(("release", "severity"), [("0.9.1", None), ("0.9.5", "warning")])
def test_an_address_in_brackets(tmp_path, release, severity):
    facts = {"llamafactory.version": release, "packages.versions": {"gradio": "4.44.1"}}
    (finding,) = found(tmp_path, facts, NO_PROXY="localhost,[::1]")
    assert (finding.cause, finding.severity and finding.severity.value) == ("launch-variable-invalid", severity)
    assert not found(tmp_path, facts, NO_PROXY="localhost,::1")


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("HTTPS_PROXY", "proxy.local:abc", 1), ("http_proxy", "http://proxy.local:port", 1),
        ("ALL_PROXY", "htp://proxy:1", 1),
        ("HTTPS_PROXY", "proxy.local:3128", 0), ("https_proxy", "http://me:secret@proxy.local:3128", 0),
        ("HTTP_PROXY", "proxy.local", 0),
    ],
)  # fmt: skip
def test_a_proxy_that_is_no_address(tmp_path, name, value, told):
    """Older releases make a client when they are imported; with newer ones only what asks the hub does."""
    for release, severity in (("0.9.1", None), ("0.9.5", Severity.WARNING)):
        given = found(tmp_path, {"llamafactory.version": release}, **{name: value})
        assert [(f.cause, f.severity) for f in given] == [("launch-variable-invalid", severity)] * told


@pytest.mark.parametrize(("value", "gpus", "told"), [("many", 0, 1), ("4", 0, 0), ("many", 8, 0)])
def test_threads_are_counted_for_ranks_on_the_cpu(tmp_path, value, gpus, told):
    assert len(found(tmp_path, {"gpu.count": gpus}, OMP_NUM_THREADS=value)) == told
