from doctor.details import packages
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
