from doctor.facts import Facts
from doctor.probes import tools
from tests.support.worlds import program, world


def collected(tmp_path, **environ):
    return tools.collect(world(tmp_path, environ=environ), Facts())


def test_programs_of_the_path_and_of_the_target(tmp_path):
    program(tmp_path / "bin", "g++")
    ninja = program(tmp_path / "env" / "bin", "ninja")
    found = collected(tmp_path, PATH=str(tmp_path / "bin"))
    assert found["tools.g++"] == str(tmp_path / "bin" / "g++")
    assert found["tools.ninja"] == str(ninja)
    assert found["tools.numactl"] is None


def test_cuda_home_by_variable_and_its_version(tmp_path):
    home = tmp_path / "cuda"
    nvcc = program(home / "bin", "nvcc")
    (home / "version.json").write_text('{"cuda": {"name": "CUDA SDK", "version": "12.4.1"}}')
    found = collected(tmp_path, CUDA_HOME=str(home))
    assert (found["tools.cuda_home"], found["tools.nvcc"], found["tools.cuda_toolkit"]) == (
        str(home),
        str(nvcc),
        "12.4.1",
    )


def test_cuda_home_by_the_compiler_on_path(tmp_path):
    nvcc = program(tmp_path / "cuda-12" / "bin", "nvcc")
    found = collected(tmp_path, PATH=str(nvcc.parent))
    assert found["tools.cuda_home"] == str(tmp_path / "cuda-12")
    assert found["tools.cuda_toolkit"] is None


def test_headers_and_libraries(tmp_path):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libaio.so").touch()
    (tmp_path / "include").mkdir()
    (tmp_path / "include" / "libaio.h").touch()
    found = collected(tmp_path, LIBRARY_PATH=str(tmp_path / "lib"), CPATH=str(tmp_path / "include"))
    assert found["tools.libaio"] == str(tmp_path / "lib" / "libaio.so")
    assert found["tools.libaio_h"] == str(tmp_path / "include" / "libaio.h")
