from doctor.facts import Facts
from doctor.probes import imports, packages


def found(lacking=(), least=None, **versions):
    facts = Facts({"imports.lacking": list(lacking), "imports.accelerate_least": least, "packages.versions": versions})
    return [(finding.cause, finding.evidence[0].what) for rule in imports.JUDGEMENTS for finding in rule(facts)]


def lacks(importer, module, name):
    return {"module": module, "name": name, "file": f"{importer}/core.py", "line": 3}


def test_one_finding_for_each_pair():
    ((cause, what),) = found(
        [lacks("llamafactory", "trl.core", "a"), lacks("llamafactory", "trl.core", "b")], trl="0.16.1"
    )
    assert (cause, what) == ("pkg-trl-mismatch", "trl.core of trl 0.16.1 has no a, b, which llamafactory imports")


def test_the_pair_decides_the_cause():
    assert found([lacks("peft", "transformers", "HybridCache")])[0][0] == "pkg-peft-transformers-mismatch"
    assert found([lacks("llamafactory", "transformers", "x")])[0][0] == "pkg-import-cannot-name"
    assert found([lacks("peft", "huggingface_hub", "x")])[0][0] == "hub-version-mismatch"


def test_the_accelerate_of_the_trainer():
    assert found(least="0.26.0", accelerate="0.21.0")[0][0] == "pkg-accelerate-mismatch"
    assert found(least="0.26.0", accelerate="0.26.0") == []


def test_an_optimizer_that_is_told_to_train():
    ((cause, what),) = found(transformers="4.45.0", accelerate="0.33.0")
    assert cause == "pkg-accelerate-mismatch"
    assert what == "accelerate 0.33.0 asks every optimizer for the train() that transformers 4.45.0 calls"
    assert found(transformers="4.44.2", accelerate="0.33.0") == []
    assert found(transformers="4.46.1", accelerate="0.34.0") == []
    assert found(transformers="4.46.1", accelerate="0.29.3") == []


def test_a_schedule_free_optimizer_has_what_is_asked_of_it():
    facts = Facts({
        "imports.lacking": [], "imports.accelerate_least": None, "recipe.values": {"optim": "schedule_free_adamw"},
        "packages.versions": {"transformers": "4.46.1", "accelerate": "0.33.0"},
    })  # fmt: skip
    assert list(imports.optimizer_has_modes(facts)) == []


def test_nothing_is_read_where_all_versions_lie_in_their_range():
    facts = Facts({"llamafactory.required": {"trl": ">=0.8.6,<=0.9.6"}, "packages.versions": {"trl": "0.9.6"}})
    assert list(packages.outside(facts)) == []
    ((name, _, _),) = packages.outside(facts.merged({"packages.versions": {"trl": "0.16.1"}}))
    assert name == "trl"


def test_a_range_without_a_newest_release():
    def of(specifier):
        return imports._without_newest(Facts({"llamafactory.required": {"transformers": specifier, "torch": ">=2"}}))

    assert of(">=4.41.2")
    assert not of(">=4.41.2,<=4.45.0")
    assert not of("==4.46.1")
