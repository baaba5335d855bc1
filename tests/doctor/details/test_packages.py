from doctor.details import packages, ranges
from doctor.facts import Facts
from doctor.findings import found

ASKED_TO_TRAIN = found("imports", "pkg-accelerate-mismatch", "x", "accelerate", package="accelerate", name="train")


def of(release_range):
    return Facts({
        "packages.versions": {"accelerate": "0.33.0", "transformers": "4.45.0"}, "packages.requires": {},
        "llamafactory.required": {"accelerate": release_range, "transformers": ">=4.41.2,<=4.46.1"},
    })  # fmt: skip


def test_accelerate_goes_up_where_llamafactory_lets_it():
    allowed = of(">=0.34.0,<=1.0.1")
    assert packages.requirement(allowed, ASKED_TO_TRAIN) == "accelerate>=0.34.0,<=1.0.1"
    assert packages.transformers_before_modes(allowed, ASKED_TO_TRAIN) is None


def test_transformers_goes_down_where_accelerate_may_not_go_up():
    held = of(">=0.30.1,<=0.33.0")
    assert packages.requirement(held, ASKED_TO_TRAIN) is None
    assert packages.transformers_before_modes(held, ASKED_TO_TRAIN) == "transformers==4.44.2"


def test_merges_that_are_pairs_need_the_newer_transformers():
    held = of(">=0.30.1,<=0.33.0").merged({"readers.merges_are_pairs": True, "packages.sources": {}})
    assert packages.transformers_before_modes(held, ASKED_TO_TRAIN) is None
    assert packages.llamafactory_with_modes(held, ASKED_TO_TRAIN) == "llamafactory==0.9.1"
    fork = held.merged({"packages.sources": {"llamafactory": "editable"}})
    assert packages.llamafactory_with_modes(fork, ASKED_TO_TRAIN) is None


def test_a_range_without_an_end_ends_with_what_was_current():
    facts = Facts({
        "packages.versions": {"llamafactory": "0.8.3"}, "packages.requires": {},
        "llamafactory.required": {"transformers": ">=4.41.2", "torch": ">=2.0"},
    })  # fmt: skip
    assert ranges.of_llamafactory(facts, "transformers") == "transformers>=4.41.2,<=4.43.4"
    assert ranges.of_llamafactory(facts, "torch") == "torch>=2.0"
    newer = facts.merged({"packages.versions": {"llamafactory": "0.9.0"}})
    assert ranges.of_llamafactory(newer, "transformers") == "transformers>=4.41.2"
