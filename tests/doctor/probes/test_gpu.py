import json
import os
from pathlib import Path

import pytest

from doctor.estimate import from_facts
from doctor.facts import Facts
from doctor.findings import Finding
from doctor.gpu import judgements, machine
from doctor.gpu import nvml as reader
from doctor.probes import gpu
from knowledge_base.schema import Severity
from tests.support.fake_nvml import GIB, H100, FakeNvml, install
from tests.support.worlds import world

T4 = {"name": "Tesla T4", "memory": 15 * GIB, "capability": (7, 5)}
RTX = {"name": "NVIDIA GeForce RTX 4090", "memory": 24 * GIB, "capability": (8, 9)}
B200 = {"name": "NVIDIA B200", "memory": 180 * GIB, "capability": (10, 0)}
BIG = "Qwen/Qwen2.5-32B-Instruct"


def facts(devices, visible_devices=None, recipe=None, **more) -> Facts:
    """Facts of a healthy stack on these devices, read by the real reader from a simulated NVML."""
    from doctor.gpu.visible import visible

    head, *read = reader.read(FakeNvml(devices, **more.pop("nvml", {})))
    linked = read.pop()["topology"] if len(devices) > 1 else None
    seen, fault = visible(visible_devices, read)
    values = {"model_name_or_path": BIG, "bf16": True, **(recipe or {})}
    return Facts({
        "recipe.path": "r.yaml", "recipe.values": values, "recipe.lines": {"bf16": 31},
        "gpu.nodes": [f"nvidia{n}" for n in range(len(devices))], "gpu.pci": [], "gpu.nvml_error": None,
        "gpu.in_container": False, "gpu.libcuda": None,
        "gpu.devices": read, "gpu.count": len(seen), "gpu.visible": seen, "gpu.visible_fault": fault,
        "gpu.visible_devices": visible_devices, "gpu.driver": head["driver"], "gpu.cuda": head["cuda"],
        "gpu.xids": [], "gpu.topology": linked,
        "gpu.bf16_needs_gpu": True, "gpu.bf16_emulated": True, "gpu.has_use_cpu": True, "gpu.p2p_driver_known": True,
        "packages.versions": {"torch": "2.5.1"}, "packages.cuda_builds": {"torch": "12.4"},
        "launch.nproc": max(1, len(seen)), "launch.nproc_given": False, "launch.environ": {}, **more,
    })  # fmt: skip


def judged(known) -> dict[str, Finding]:
    return {finding.cause: finding for rule in gpu.JUDGEMENTS for finding in rule(known)}


def test_eight_healthy_cards():
    assert judged(facts([dict(H100, nvlinks=18, fabric=3)] * 8)) == {}


def test_one_virtualised_card_without_links_is_healthy():
    assert judged(facts([dict(H100, unsupported=["ecc", "rows", "retired", "throttle", "pcie"])])) == {}


def test_no_gpu_for_the_32b_model():
    found = judged(facts([], **{"gpu.bf16_needs_gpu": False}))
    assert set(found) == {"gpu-count-mismatch"}
    assert found["gpu-count-mismatch"].severity is Severity.WARNING
    assert "32.0B parameters" in found["gpu-count-mismatch"].evidence[0].what


@pytest.mark.parametrize(
    ("parameters", "severity"), [(1.2e5, Severity.INFO), (1e9, Severity.INFO), (1.1e9, Severity.WARNING)]
)
def test_no_gpu_by_the_size_of_the_model(parameters, severity):
    known = facts([], **{"gpu.bf16_needs_gpu": False, "model.parameters": parameters})
    assert judged(known)["gpu-count-mismatch"].severity is severity


def test_no_gpu_and_a_model_of_unknown_size():
    known = facts([], recipe={"model_name_or_path": "/models/mine"}, **{"gpu.bf16_needs_gpu": False})
    assert judged(known)["gpu-count-mismatch"].severity is Severity.WARNING


def test_processes_on_a_cpu_are_no_mismatch():
    known = facts(
        [], **{"gpu.bf16_needs_gpu": False, "launch.nproc": 2, "launch.nproc_given": True, "model.parameters": 1e5}
    )
    assert [(c, f.severity) for c, f in judged(known).items()] == [("gpu-count-mismatch", Severity.INFO)]


def test_idle_gpus():
    known = facts(
        [{}] * 8, recipe={"gradient_accumulation_steps": 12}, **{"launch.nproc": 4, "launch.nproc_given": True}
    )
    finding = judged(known)["gpu-count-mismatch"]
    assert finding.severity is Severity.INFO
    assert finding.details == {"gpus": 8, "nproc": 4, "gradient_accumulation_steps": 6}


@pytest.mark.parametrize(
    ("value", "severity"),
    [("0,9", Severity.WARNING), ("9", None), ("0,0", None), ("-1", Severity.WARNING), ("", Severity.WARNING)],
)
def test_cuda_visible_devices(value, severity):
    finding = judged(facts([{}] * 8, visible_devices=value))["gpu-visible-devices"]
    assert finding.severity is severity
    assert f"CUDA_VISIBLE_DEVICES={value}" in finding.evidence[0].what


@pytest.mark.parametrize("value", ["0,1", "GPU-00000003", "7"])
def test_cuda_visible_devices_that_are_there(value):
    assert judged(facts([{}] * 8, visible_devices=value)) == {}


def test_busy_card_and_the_free_ones():
    known = facts([{"used": 60 * GIB, "holders": [(4242, 59 * GIB)]}, {}, {"used": 9 * GIB}, {}])
    findings = [f for rule in gpu.JUDGEMENTS for f in rule(known)]
    assert [(f.cause, f.details["gpu"], f.details["free_gpus"]) for f in findings] == [
        ("gpu-busy", 0, "1,3"), ("gpu-busy", 2, "1,3"),
    ]  # fmt: skip
    assert "pid 4242" in findings[0].evidence[0].what
    assert "not shown here" in findings[1].evidence[0].what


def test_a_busy_card_that_the_launch_does_not_use_is_no_matter():
    assert judged(facts([{"used": 60 * GIB}, {}], visible_devices="1")) == {}


def test_a_tenth_of_the_memory_is_not_busy():
    assert judged(facts([{"used": 8 * GIB}])) == {}


def test_bf16_on_an_older_card():
    emulating = judged(facts([T4]))["gpu-bf16-unsupported"]
    assert emulating.severity is Severity.WARNING
    assert emulating.evidence[0].where == "r.yaml:31"
    refusing = judged(facts([T4], **{"gpu.bf16_emulated": False}))["gpu-bf16-unsupported"]
    assert refusing.severity is None
    assert judged(facts([T4], recipe={"bf16": False})) == {}


def test_bf16_without_a_gpu_depends_on_the_installed_transformers():
    refused = judged(facts([], **{"model.parameters": 1e5}))["gpu-bf16-unsupported"]
    assert refused.severity is None
    assert refused.details["no_gpu"] is True
    assert refused.details["has_use_cpu_field"] is True
    assert set(judged(facts([], **{"gpu.bf16_needs_gpu": False}))) == {"gpu-count-mismatch"}
    assert set(judged(facts([], recipe={"use_cpu": True}))) == {"gpu-count-mismatch"}


def test_pure_bf16_without_a_gpu_is_refused_by_llamafactory():
    known = facts([], recipe={"bf16": False, "pure_bf16": True}, **{"gpu.bf16_needs_gpu": False})
    assert judged(known)["gpu-bf16-unsupported"].details["key"] == "pure_bf16"


@pytest.mark.parametrize(
    ("driver_cuda", "torch_cuda", "found"),
    [(11040, "12.1", True), (12020, "12.4", False), (12040, "13.0", True), (13000, "12.4", False)],
)
def test_driver_against_torch(driver_cuda, torch_cuda, found):
    known = facts([{}], nvml={"cuda": driver_cuda}, **{"packages.cuda_builds": {"torch": torch_cuda}})
    assert ("cuda-driver-too-old" in judged(known)) is found


def test_a_cpu_build_on_a_gpu_machine():
    assert set(judged(facts([{}], **{"packages.cuda_builds": {"torch": None}}))) == {"cuda-unavailable"}
    assert judged(facts([{}], **{"packages.cuda_builds": {}, "packages.versions": {}})) == {}


@pytest.mark.parametrize(
    ("card", "cuda", "found"),
    [(B200, "12.4", True), (B200, "12.8", False), (T4, "13.0", False), ({"capability": (6, 1)}, "12.8", True)],
)
def test_kernels_for_the_card(card, cuda, found):
    known = facts([card], recipe={"bf16": False}, **{"packages.cuda_builds": {"torch": cuda}}, nvml={"cuda": 13020})
    assert ("cuda-arch-unsupported" in judged(known)) is found


def test_rtx_40_and_p2p():
    old = {"nvml": {"driver": "535.104.05"}}
    assert set(judged(facts([RTX] * 2, **old))) == {"gpu-p2p-disabled"}
    assert judged(facts([RTX] * 2)) == {}
    assert judged(facts([RTX], **old)) == {}
    switched_off = {"launch.environ": {"NCCL_P2P_DISABLE": "1", "NCCL_IB_DISABLE": "1"}}
    assert judged(facts([RTX] * 2, **old, **switched_off)) == {}
    assert set(judged(facts([RTX] * 2, **{"gpu.p2p_driver_known": False}))) == {"gpu-p2p-disabled"}
    assert set(judged(facts([RTX] * 2, visible_devices="0", **old))) == {"gpu-p2p-disabled"}


def test_faulty_memory_names_the_healthy_cards():
    finding = judged(facts([{}, {"ecc": 2}, {}]))["gpu-ecc-xid"]
    assert finding.severity is None
    assert finding.details == {"gpu": 1, "healthy_gpus": "0,2"}
    assert judged(facts([{}, {"ecc": 2}], visible_devices="0"))["gpu-ecc-xid"].severity is Severity.WARNING


def test_reports_in_the_kernel_log():
    ecc = {"where": "PCI:0000:18:00", "xid": 94, "text": "Contained ECC error"}
    assert judged(facts([{}], **{"gpu.xids": [ecc]}))["gpu-ecc-xid"].severity is Severity.WARNING
    lost = {"where": "PCI:0000:18:00", "xid": 79, "text": "GPU has fallen off the bus."}
    assert set(judged(facts([{}], **{"gpu.xids": [lost]}))) == {"gpu-fell-off-bus"}
    assert judged(facts([{}], **{"gpu.xids": [{"where": "", "xid": 13, "text": "Graphics Exception"}]})) == {}


def test_a_lost_card():
    finding = judged(facts([{}, {"lost": True}, {}]))["gpu-fell-off-bus"]
    assert finding.details == {"gpu": 1, "healthy_gpus": "0,2"}


def test_fabric_compute_mode_and_throttling():
    assert set(judged(facts([{"fabric": 2}] * 8))) == {"gpu-fabricmanager-missing"}
    assert set(judged(facts([{"compute_mode": 2}]))) == {"cuda-unavailable"}
    assert set(judged(facts([{"throttle": 0x40}]))) == {"train-slow"}
    assert set(judged(facts([{"power_limit": 300_000}]))) == {"train-slow"}
    assert judged(facts([{"power_limit": 650_000, "throttle": 0x5}])) == {}
    assert set(judged(facts([{"width": 4, "width_max": 16}]))) == {"train-slow"}
    assert judged(facts([{**RTX, "width": 8, "width_max": 16}])) == {}
    slow = judged(facts([{"nvlinks": 18, "links_down": [3]}]))["train-slow"]
    assert "17 of 18 NVLinks are up" in slow.evidence[0].what
    assert judged(facts([{"nvlinks": 18, "links_down": range(18)}])) == {}
    assert judged(facts([{"nvlinks": 18}] * 8)) == {}
    apart = judged(facts([{"nvlinks": 18, "apart": [1]}, *[{"nvlinks": 18}] * 7]))["train-slow"]
    assert apart.evidence[0].what == "GPU 0 and GPU 1 reach each other by NODE, the other pairs by NVLink"


def test_flash_attention_and_the_card():
    assert set(judged(facts([T4], recipe={"flash_attn": "fa2", "bf16": False}))) == {"attn-fa2-gpu-too-old"}
    assert judged(facts([RTX], recipe={"flash_attn": "fa2"})) == {}
    assert set(judged(facts([RTX], recipe={"flash_attn": "fa3"}))) == {"attn-fa2-gpu-too-old"}
    assert judged(facts([T4], recipe={"flash_attn": "sdpa", "bf16": False})) == {}


def test_fp8_and_the_card():
    a100 = {"name": "NVIDIA A100-SXM4-80GB", "capability": (8, 0)}
    assert set(judged(facts([a100], recipe={"fp8": True}))) == {"gpu-fp8-unsupported"}
    assert judged(facts([RTX], recipe={"fp8": True})) == {}
    assert judged(facts([a100], recipe={"fp8": False})) == {}


def test_two_nodes_of_eight():
    """Each node judges its own eight; the ranks of both share the states."""
    known = facts([{"nvlinks": 18}] * 8, **{"launch.nnodes": 2, "launch.nproc": 8, "machine.memory_total": 10**12,
                                              "machine.cgroup_memory": None})  # fmt: skip
    assert judged(known) == {}
    assert from_facts.world(known).size == 16


def test_a_reading_of_a_real_h100():
    """Read by `python -m doctor.gpu.nvml` on one virtualised H100 while a program held 20.5 GiB of it."""
    recorded = Path(__file__).parent.parent / "gpu" / "h100.jsonl"
    head, device = (json.loads(line) for line in recorded.read_text().splitlines())
    known = facts([{}]).merged({"gpu.devices": [device], "gpu.driver": head["driver"], "gpu.cuda": head["cuda"]})
    found = judged(known)
    assert set(found) == {"gpu-busy"}
    assert "21.0 of 79.6 GiB are held by pid 423" in found["gpu-busy"].evidence[0].what
    idle = {**device, "memory_free": 85017493504, "holders": []}
    assert judged(known.merged({"gpu.devices": [idle]})) == {}


# -- collecting ---------------------------------------------------------------------------------------------------------
@pytest.fixture
def machine_with(tmp_path, monkeypatch):
    """A /dev with NVIDIA nodes and a pynvml that says what the test wants."""

    def make(**arguments):
        (tmp_path / "dev").mkdir()
        for index in range(max(1, len(arguments["devices"]))):
            (tmp_path / "dev" / f"nvidia{index}").touch()
        monkeypatch.setattr(machine, "DEV", tmp_path / "dev")
        monkeypatch.setattr(machine, "KERNEL_LOG", tmp_path / "kmsg")
        install(tmp_path, **arguments)
        monkeypatch.setenv(
            "PYTHONPATH", os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH", "")]))
        )

    return make


def collected(tmp_path, values=None, **environ):
    return Facts(gpu.collect(world(tmp_path, environ=environ), Facts({"recipe.values": values or {}})))


def test_collect_from_the_child(tmp_path, machine_with):
    machine_with(devices=[{"holders": [(os.getpid(), GIB)]}, {}])
    known = collected(tmp_path, CUDA_VISIBLE_DEVICES="1")
    assert (known["gpu.count"], known["gpu.visible"], known["gpu.driver"]) == (1, ["1"], "550.54.15")
    assert known["gpu.topology"] == [["self", "NODE"], ["NODE", "self"]]
    holder = known["gpu.devices"][0]["holders"][0]
    assert holder["program"]
    assert holder["user"]
    assert "kernel log" in known.why_unknown("gpu.xids")


def test_collect_with_a_hung_driver(tmp_path, machine_with, monkeypatch):
    machine_with(devices=[{}, {}], hang_at=1)
    monkeypatch.setattr(machine, "NVML_SECONDS", 1.0)
    known = collected(tmp_path)
    assert "did not answer" in known.why_unknown("gpu.count")
    assert len(known["gpu.devices"]) == 1


@pytest.mark.parametrize(
    ("error", "said", "cause"),
    [
        ("DriverNotLoaded", "driver not loaded", "cuda-driver-missing"),
        ("LibRmVersionMismatch", "lib rm version mismatch", "gpu-driver-library-mismatch"),
    ],
)
def test_collect_where_nvml_does_not_start(tmp_path, machine_with, error, said, cause):
    machine_with(devices=[], init_error=error)
    known = collected(tmp_path)
    assert known["gpu.nvml_error"] == said
    judgement = next(rule for rule in gpu.JUDGEMENTS if rule.__name__ == "driver")
    assert [f.cause for f in judgement(known)] == [cause]


def test_cuda_without_nvml_is_unknown_not_broken(tmp_path, machine_with):
    machine_with(devices=[{}], init_error="LibraryNotFound")
    assert collected(tmp_path, LD_LIBRARY_PATH="/none")["gpu.nvml_error"] == "library not found"
    (tmp_path / "libcuda.so.1").touch()
    known = collected(tmp_path, LD_LIBRARY_PATH=f"/none:{tmp_path}")
    assert known["gpu.libcuda"] == str(tmp_path / "libcuda.so.1")
    assert "NVML does not start" in known.why_unknown("gpu.count")
    judgement = next(rule for rule in gpu.JUDGEMENTS if rule.__name__ == "driver")
    assert list(judgement(known)) == []
    assert [f.cause for f in judgement(known.merged({"gpu.libcuda": None}))] == ["cuda-driver-missing"]


def test_the_toolkits_stub_before_the_driver_is_named(tmp_path, machine_with):
    machine_with(devices=[{}])
    stub = tmp_path / "cuda" / "lib64" / "stubs" / "libcuda.so"
    stub.parent.mkdir(parents=True)
    stub.touch()
    (tmp_path / "libcuda.so.1").symlink_to(stub)
    known = collected(tmp_path, LD_LIBRARY_PATH=f"{tmp_path}")
    assert known["gpu.libcuda_is_stub"] is True
    judgement = next(rule for rule in gpu.JUDGEMENTS if rule.__name__ == "stub")
    (found,) = judgement(known)
    assert found.cause == "cuda-driver-missing"
    assert str(tmp_path / "libcuda.so.1") in found.evidence[0].what
    assert list(judgement(known.merged({"gpu.nodes": []}))) == []  # a login node has nothing to start
    (tmp_path / "libcuda.so.1").unlink()
    (tmp_path / "libcuda.so.1").symlink_to(tmp_path / "libcuda.so.535.104.05")
    (tmp_path / "libcuda.so.535.104.05").touch()
    assert list(judgement(collected(tmp_path, LD_LIBRARY_PATH=f"{tmp_path}"))) == []


def test_collect_without_nodes_asks_nobody(tmp_path, monkeypatch):
    (tmp_path / "dev").mkdir()
    monkeypatch.setattr(machine, "DEV", tmp_path / "dev")
    monkeypatch.setattr(machine, "ask_nvml", lambda **_: pytest.fail("NVML was asked"))
    assert collected(tmp_path)["gpu.count"] == 0
    (tmp_path / "dev" / "kfd").touch()
    assert "AMD" in collected(tmp_path).why_unknown("gpu.count")


def test_a_gpu_on_the_bus_without_driver(tmp_path, monkeypatch):
    for name, kind in (("0000:18:00.0", "0x030200"), ("0000:18:00.1", "0x040300")):
        function = tmp_path / "pci" / name
        function.mkdir(parents=True)
        (function / "vendor").write_text("0x10de\n")
        (function / "class").write_text(kind + "\n")
    monkeypatch.setattr(machine, "PCI", tmp_path / "pci")
    assert machine.pci_functions() == ["0000:18:00.0"]
    known = facts([], **{"gpu.pci": ["0000:18:00.0"], "gpu.bf16_needs_gpu": False})
    assert judged(known)["cuda-driver-missing"].severity is Severity.WARNING


FIELD = "    use_cpu: bool = field()\n"
REFUSES = FIELD + "            if not self.use_cpu and not is_torch_bf16_gpu_available() and not tpu:\n"
OLDER = FIELD + "                    if torch.cuda.is_available() and not is_torch_bf16_gpu_available():\n"


@pytest.mark.parametrize(("source", "needs"), [(REFUSES, True), (OLDER, False), ("other", None), (None, None)])
def test_the_bf16_rule_is_read_from_the_installed_transformers(tmp_path, source, needs):
    made = world(tmp_path)
    if source is not None:
        package = made.site[0] / "transformers"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "training_args.py").write_text(source)
    known = Facts(gpu.collect(made, Facts({"recipe.values": {"bf16": True}})))
    assert known.get("gpu.bf16_needs_gpu") is needs
    assert known.known("gpu.bf16_needs_gpu") is (needs is not None)


def test_xids_of_a_kernel_log(tmp_path, monkeypatch):
    log = tmp_path / "kmsg"
    os.mkfifo(log)
    monkeypatch.setattr(machine, "KERNEL_LOG", log)
    writer = os.open(log, os.O_RDWR)
    os.write(writer, b"4,1,2,-;NVRM: Xid (PCI:0000:18:00): 79, pid=1, GPU has fallen off the bus.\n")
    assert machine.xids() == [{"where": "PCI:0000:18:00", "xid": 79, "text": "pid=1, GPU has fallen off the bus."}]
    os.close(writer)


def test_fp16_and_tf32_want_a_gpu():
    none = facts([], recipe={"bf16": False, "fp16": True, "tf32": True})
    assert [f.evidence[0].what.partition(":")[0] for f in judgements.precision_of_gpus(none)] == ["tf32", "fp16"]
    card = facts([H100], recipe={"bf16": False, "fp16": True, "tf32": True})
    assert list(judgements.precision_of_gpus(card)) == []
    zero = facts([], recipe={"fp16": True, "deepspeed": "ds.json"})
    assert list(judgements.precision_of_gpus(zero)) == []
