import pytest

from doctor.machine import limits


@pytest.fixture
def cgroup(tmp_path, monkeypatch):
    """A cgroup file system of the test's making; the function writes the files and /proc/self/cgroup."""

    def make(own: str, files: dict[str, str]):
        monkeypatch.setattr(limits, "CGROUP", tmp_path / "cgroup")
        monkeypatch.setattr(limits, "OWN_GROUPS", tmp_path / "own")
        (tmp_path / "own").write_text(own)
        for name, text in files.items():
            path = tmp_path / "cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n")

    return make


def test_version_2_takes_the_tightest_of_the_parents(cgroup):
    cgroup(
        "0::/a/b\n", {"a/b/memory.max": "max", "a/memory.max": "1000", "a/memory.current": "400", "memory.max": "5000"}
    )
    assert limits.cgroup_memory() == (1000, 400)


def test_version_1(cgroup):
    files = {"memory/slurm/job_7/memory.limit_in_bytes": "8000", "memory/slurm/job_7/memory.usage_in_bytes": "10",
             "memory/memory.limit_in_bytes": "9223372036854771712"}  # fmt: skip
    cgroup("9:memory:/slurm/job_7\n3:cpu,cpuacct:/slurm\n", files)
    assert limits.cgroup_memory() == (8000, 10)


def test_a_container_sees_the_hosts_path_and_its_limit_at_the_root(cgroup):
    cgroup("0::/docker/abc\n", {"memory.max": "2000", "cpu.max": "150000 100000"})
    assert limits.cgroup_memory() == (2000, None)
    assert limits.cgroup_cpus() == 1.5


def test_no_limit(cgroup):
    cgroup("0::/\n", {"memory.max": "max", "cpu.max": "max 100000"})
    assert limits.cgroup_memory() == (None, None)
    assert limits.cgroup_cpus() is None


def test_cpu_quota_of_version_1(cgroup):
    cgroup(
        "1:cpu:/x\n",
        {"cpu/x/cpu.cfs_quota_us": "400000", "cpu/x/cpu.cfs_period_us": "100000", "cpu/cpu.cfs_quota_us": "-1"},
    )
    assert limits.cgroup_cpus() == 4.0


def test_no_cgroups_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "OWN_GROUPS", tmp_path / "none")
    assert limits.cgroup_memory() == (None, None)
    assert limits.cgroup_cpus() is None


def test_meminfo(tmp_path, monkeypatch):
    assert limits.meminfo()["MemTotal"] > limits.meminfo()["MemAvailable"] > 0
    monkeypatch.setattr(limits, "MEMINFO", tmp_path / "none")
    assert limits.meminfo() == {}
