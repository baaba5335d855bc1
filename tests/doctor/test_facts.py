import json

import pytest

from doctor.facts import Facts, Unknown, UnknownFact


def test_a_known_fact_is_its_value():
    assert Facts({"gpu.count": 8})["gpu.count"] == 8


def test_an_unknown_fact_raises_with_its_reason():
    with pytest.raises(UnknownFact, match=r"gpu\.count: NVML hangs"):
        Facts({"gpu.count": Unknown("NVML hangs")})["gpu.count"]


def test_a_fact_that_nobody_collected_is_unknown_not_missing():
    with pytest.raises(UnknownFact, match="was not collected"):
        Facts()["gpu.count"]


def test_get_gives_the_default_for_unknown_but_keeps_none_and_zero():
    facts = Facts({"a": Unknown("late"), "b": None, "c": 0})
    assert (facts.get("a", 7), facts.get("b", 7), facts.get("c", 7)) == (7, None, 0)


def test_json_and_back_keeps_values_and_reasons():
    facts = Facts({"a": [1, {"x": "ü"}], "b": Unknown("no permission"), "c": {"unknown": 3, "other": 1}})
    again = Facts.from_json(json.loads(json.dumps(facts.to_json())))
    assert again.to_json() == facts.to_json()
    assert again.why_unknown("b") == "no permission"
    assert again["c"] == {"unknown": 3, "other": 1}


def test_in_asks_whether_a_fact_was_collected_and_raises_nothing():
    facts = Facts({"a.b": 1, "a.c": Unknown("timed out")})
    assert "a.b" in facts
    assert "a.c" in facts
    assert "a.d" not in facts
