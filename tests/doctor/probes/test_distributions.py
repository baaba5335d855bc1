from doctor.facts import Facts
from doctor.probes import distributions
from tests.support.worlds import world


def collected(tmp_path, versions, files):
    made = world(tmp_path)
    for name, text in files.items():
        path = made.site[0] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    known = Facts({"packages.versions": versions, "packages.sources": {}, "python.version": "3.10.4"})
    return known.merged(distributions.collect(made, known))


def found(facts):
    return [finding.cause for rule in distributions.JUDGEMENTS for finding in rule(facts)]


def test_files_of_another_release(tmp_path):
    versions = {"transformers": "4.46.1", "torch": "2.5.1+cu124", "peft": "0.12.0"}
    files = {
        "transformers/__init__.py": '__version__ = "4.40.0"\n',
        "torch/version.py": "__version__ = '2.5.1+cu124'\n",
        "peft/__init__.py": '__version__ = "0.12.0"\n',
    }
    facts = collected(tmp_path, versions, files)
    (finding,) = distributions.files_are_of_record(facts)
    assert finding.cause == "pkg-broken-install"
    assert finding.evidence[0].what == "transformers is recorded as 4.46.1, and its files say 4.40.0"


def test_a_local_label_or_a_checkout_is_no_other_release(tmp_path):
    versions = {"torch": "2.5.1", "transformers": "4.46.1"}
    files = {
        "torch/version.py": "__version__: str = '2.5.1+cu124'\n",
        "transformers/__init__.py": '__version__ = "4.47.0.dev0"\n',
    }
    facts = collected(tmp_path, versions, files).merged(
        {"packages.sources": {"transformers": "/home/user/transformers"}}
    )
    assert found(facts) == []


def test_a_python_that_the_package_is_not_for(tmp_path):
    metadata = "llamafactory-0.9.5.dist-info/METADATA"
    asks = {"llamafactory": "0.9.5"}
    facts = collected(tmp_path, asks, {metadata: "Name: llamafactory\nRequires-Python: >=3.11\n"})
    assert found(facts) == ["env-wrong-python-version"]
    assert found(facts.merged({"python.version": "3.11.0"})) == []


def at(python, **versions):
    facts = Facts({"packages.versions": {"llamafactory": "0.9.1", **versions}, "python.version": python})
    return [finding.evidence[0].what for finding in distributions.newer_python_is_known(facts)]


def test_packages_that_python_3_13_cannot_import():
    assert at("3.13.0", tyro="0.8.14", trl="0.9.6") == [
        "trl imports tyro 0.8.14, which cannot be imported by Python 3.13.0"
    ]
    assert at("3.13.0", tyro="0.9.1", trl="0.9.6", gradio="4.44.1", pydub="0.25.1") == [
        "gradio imports pydub, and Python 3.13.0 has no audioop for it"
    ]
    mended = {"tyro": "0.9.1", "trl": "0.9.6", "gradio": "4.44.1", "pydub": "0.25.1", "audioop-lts": "0.2.2"}
    assert at("3.13.0", **mended) == []
    assert at("3.12.1", tyro="0.8.14", trl="0.9.6", gradio="4.44.1", pydub="0.25.1") == []
