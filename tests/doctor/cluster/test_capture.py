"""The joined document: lossless, small, and judged once for equal nodes."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

import msgspec
import pytest

from doctor.cluster import judge, render, wire
from doctor.cluster.capture import Capture, joined, zipped
from doctor.facts import Facts
from doctor.findings import Evidence, Finding
from tests.doctor.cluster.nodes import capture, facts


def through_json(made: Capture) -> Capture:
    return Capture.from_json(json.loads(msgspec.json.encode(made.to_json())))


def test_a_capture_comes_back_whole() -> None:
    made = capture(12, {3: {"packages.versions": {"torch": "2.6.0"}}, 5: {"gpu.count": {"unknown": "no driver"}}})
    made.missing("node099", "did not answer within 10 s")
    back = through_json(made)
    assert back.reasons == made.reasons
    assert all(back.values(node) == made.values(node) for node in made.answered)
    assert back.unknown("gpu.count")[0].value == "no driver"


def test_documents_join_in_any_order() -> None:
    documents = [(f"node{n}", zipped(facts(n, 9))) for n in range(9)]
    random.Random(1).shuffle(documents)
    made = joined(documents)
    assert made.of("launch.node_rank") == {name: int(name[4:]) for name, _ in documents}


def test_what_is_no_document_is_refused() -> None:
    with pytest.raises(ValueError, match="node1 sent no facts"):
        Capture().add("node1", b"Traceback (most recent call last)")


def test_equal_nodes_are_judged_once() -> None:
    asked: list[int] = []

    def judgement(read: Facts) -> Iterator[Finding]:
        asked.append(read["gpu.count"])
        if read["gpu.count"] < 8 and read["launch.node_rank"] >= 0:
            yield Finding("gpu-count-mismatch", (Evidence(f"{read['gpu.count']} GPUs", "gpu"),))

    class Probe:
        ID, AFTER, JUDGEMENTS = "p", (), (judgement,)

    judged = judge.judge(capture(50, {7: {"gpu.count": 4}, 8: {"gpu.count": 4}}), probes=[Probe])  # type: ignore[list-item]
    assert sorted(asked) == [4, 4, 8]
    finding = next(a for a in judged.findings if a.finding.cause == "gpu-count-mismatch")
    assert finding.nodes == ("node007", "node008")


def test_a_judgement_that_cannot_judge_says_so_with_its_nodes() -> None:
    def judgement(read: Facts) -> Iterator[Finding]:
        yield Finding("gpu-count-mismatch", (Evidence(str(read["gpu.count"]), "gpu"),))

    class Probe:
        ID, AFTER, JUDGEMENTS = "p", (), (judgement,)

    judged = judge.judge(capture(3, {1: {"gpu.count": {"unknown": "late"}}}), probes=[Probe])  # type: ignore[list-item]
    assert judged.not_judged == {"p": {"gpu.count: late": ["node001"]}}
    text = list(render.lines(render.document("check", capture(3), judged, "en"), "en"))
    assert "? p: not judged on node001: gpu.count: late" in text


def test_a_thousand_nodes_stay_readable_and_the_document_has_all() -> None:
    odd = {n: {"packages.versions": {"torch": f"2.{n % 300}.0", "rich": str(n)}} for n in range(0, 1000, 2)}
    made = capture(1000, odd)
    made.missing("node999", "did not answer within 10 s")
    content = render.document("check", made, judge.judge(made, probes=()), "zh")
    text = list(render.lines(content, "zh"))
    assert len(text) < 60
    assert max(map(len, text)) <= render.WIDEST
    assert text[0] == "1000 个节点中 999 个已应答"
    kept = Capture.from_json(json.loads(msgspec.json.encode(content))["cluster_facts"])
    assert kept.values("node002")["packages.versions"]["rich"] == "2"
    assert "node998" in json.dumps([finding["evidence"] for finding in content["findings"]])


def test_the_wire_survives_lines_of_others_in_between() -> None:
    receiver = wire.Receiver()
    data = {f"node{n}": bytes(random.Random(n).randbytes(5000)) for n in range(3)}
    lines = [line for node, sent in data.items() for line in [*wire.lines(node, sent), "srun: a note\n"]]
    random.Random(2).shuffle(lines)
    whole = [got for line in lines if (got := receiver.feed(line))]
    assert dict(whole) == data
    assert all(len(line) < 1024 for line in lines)
    assert receiver.begun == []


def test_a_document_that_breaks_off_is_known() -> None:
    receiver = wire.Receiver()
    for line in list(wire.lines("node7", b"x" * 5000))[:-1]:
        assert receiver.feed(line) is None
    assert receiver.begun == ["node7"]
