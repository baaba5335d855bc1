"""What the parser makes of tracebacks and other failures as logs really hold them."""

from __future__ import annotations

from doctor.diagnose.events import Kind
from doctor.diagnose.failures import Failure, failures
from doctor.diagnose.lines import Level, lines
from doctor.diagnose.read import Stream
from doctor.diagnose.scan import Scan, Stretch


def parse(text: str) -> list[Failure]:
    stream = Stream("a.log", lambda: iter(()))
    return failures(lines(Scan(stream, [Stretch(text.encode(), 1)], len(text)), 0))


def told(text: str) -> list[tuple[str, str]]:
    return [(failure.exception, failure.message) for failure in parse(text)]


def test_a_plain_traceback_has_frames_and_a_message() -> None:
    (failure,) = parse(
        "Traceback (most recent call last):\n"
        '  File "/home/user/train.py", line 7, in main\n'
        "    run()\n"
        '  File "/opt/env/lib/python3.11/site-packages/x.py", line 9, in run\n'
        '    raise ValueError("no")\n'
        "ValueError: no\n"
        "and the second line of it\n"
        "\n"
        "something else\n"
    )
    assert (failure.kind, failure.exception) == (Kind.PYTHON, "ValueError")
    assert failure.message == "no\nand the second line of it"
    assert [(frame.file, frame.line) for frame in failure.user_frames] == [("/home/user/train.py", 7)]
    assert len(failure.frames) == 2


def test_chained_exceptions_share_a_chain_innermost_first() -> None:
    found = parse(
        "Traceback (most recent call last):\n"
        '  File "a.py", line 1, in f\n'
        "KeyError: 'qwen2'\n"
        "\n"
        "During handling of the above exception, another exception occurred:\n"
        "\n"
        "Traceback (most recent call last):\n"
        '  File "b.py", line 2, in g\n'
        "ValueError: does not recognize\n"
        "Traceback (most recent call last):\n"
        '  File "c.py", line 3, in h\n'
        "OSError: other\n"
    )
    assert [failure.exception for failure in found] == ["KeyError", "ValueError", "OSError"]
    assert found[0].chain == found[1].chain != found[2].chain


def test_a_message_whose_lines_lost_their_prefix_belongs_to_the_rank_that_began_it() -> None:
    (failure,) = parse(
        "[rank0]: deepspeed.runtime.zero.utils.ZeRORuntimeException: \n"
        "The checkpoint being loaded used a DP world size of 4 but the current world size is 8.\n"
        "Automatic adjustment is not currently supported.\n"
        "\n"
        "something else\n"
    )
    assert failure.rank == 0
    assert failure.message == (
        "The checkpoint being loaded used a DP world size of 4 but the current world size is 8.\n"
        "Automatic adjustment is not currently supported."
    )


def test_what_follows_a_prefixed_exception_that_says_something_is_not_its_message() -> None:
    (failure,) = parse("[rank0]: ValueError: no\nanother writer's line\n")
    assert failure.message == "no"


def test_interleaved_ranks_are_told_apart_by_their_prefixes() -> None:
    found = parse(
        "[rank1]: Traceback (most recent call last):\n"
        "[rank0]: Traceback (most recent call last):\n"
        '[rank1]:   File "a.py", line 1, in f\n'
        '[rank0]:   File "b.py", line 2, in g\n'
        "[rank1]: ValueError: one\n"
        "[rank0]: OSError: two\n"
    )
    assert [(f.rank, f.exception, f.frames[0].file) for f in found] == [
        (1, "ValueError", "a.py"),
        (0, "OSError", "b.py"),
    ]


def test_prefixes_of_launchers() -> None:
    for text, rank in (
        ("[default3]:ValueError: x", 3),
        ("[1,2]<stderr>: ValueError: x", 2),
        ("node1: [rank5]: ValueError: x", 5),
        ("(RayTrainWorker pid=71, ip=10.0.0.1) ValueError: x", None),
        ("worker-1  | 2024-09-26 06:12:44 | ERROR | stderr | ValueError: x", None),
        ("  3%|##  | 4/120 [00:01<00:40,  2.96s/it][rank4]: ValueError: x", 4),
    ):
        (failure,) = parse(text)
        assert (failure.exception, failure.message, failure.rank) == ("ValueError", "x", rank), text


def test_slurm_task_numbers_are_ranks_only_when_all_lines_have_them() -> None:
    (failure,) = parse("0: starting\n1: starting\n0: step\n1: ValueError: x\n1: end\n0: end\n")
    assert failure.rank == 1
    (failure,) = parse("1: a list\nplain\nplain\nValueError: x\n2: a list\n")
    assert failure.rank is None


def test_a_traceback_on_one_line_and_without_indentation() -> None:
    (failure,) = parse(
        'Traceback (most recent call last):  File "F:\\work\\main.py", line 6, in <module> ValueError: x'
    )
    assert (failure.exception, failure.message, failure.frames[0].line) == ("ValueError", "x", 6)
    (failure,) = parse('Traceback (most recent call last):\nFile "a.py", line 1, in f\nrun()\nValueError: x\n')
    assert (failure.exception, failure.frames[0].function) == ("ValueError", "f")


def test_a_log_folded_into_one_line() -> None:
    found = parse(
        "[INFO|trainer.py:2700] >> Loading model from saves/checkpoint-500. Traceback (most recent call last): "
        'File "/opt/env/lib/python3.11/site-packages/transformers/trainer.py", line 3210, in load optimizer.load( '
        'File "/opt/env/lib/python3.11/site-packages/torch/optim/optimizer.py", line 880, in load raise ValueError( '
        "KeyError: 'group' During handling of the above exception, another exception occurred: "
        'Traceback (most recent call last): File "a.py", line 1, in <module> main() ValueError: no such group'
    )
    assert [(failure.exception, failure.message) for failure in found] == [
        ("KeyError", "'group'"),
        ("ValueError", "no such group"),
    ]
    assert found[0].chain == found[1].chain
    assert [len(failure.frames) for failure in found] == [2, 1]


def test_what_only_passes_a_failure_on() -> None:
    outer, inner = parse(
        "torch.multiprocessing.spawn.ProcessRaisedException:\n\n"
        "-- Process 5 terminated with the following error:\n"
        "Traceback (most recent call last):\n"
        '  File "train.py", line 41, in run\n'
        "ValueError: no\n"
    )
    assert outer.wraps
    assert inner.hard
    assert parse("FileNotFoundError: Caught FileNotFoundError in DataLoader worker process 3.\n")[0].wraps
    assert parse("RuntimeError: Engine core initialization failed. See root cause above.\n")[0].wraps


def test_an_error_code_of_torch_npu_is_part_of_the_message() -> None:
    (failure,) = parse(
        "RuntimeError: [ERROR] HCCL error in: torch_npu/csrc/distributed/ProcessGroupHCCL.cpp:64\n"
        "[ERROR] 2026-05-21-11:57:54 (PID:92, Device:3, RankID:3) ERR02200 DIST call hccl api failed.\n"
        "EJ0001: Failed to initialize the HCCP process.\n"
    )
    assert failure.message.endswith("EJ0001: Failed to initialize the HCCP process.")


def test_a_worker_s_remote_traceback_belongs_to_what_it_caused() -> None:
    found = parse(
        "multiprocess.pool.RemoteTraceback: \n"
        '"""\n'
        "Traceback (most recent call last):\n"
        '  File "pool.py", line 125, in worker\n'
        "ValueError: inner\n"
        '"""\n'
        "\n"
        "The above exception was the direct cause of the following exception:\n"
        "\n"
        "Traceback (most recent call last):\n"
        '  File "a.py", line 1, in f\n'
        "ValueError: inner\n"
    )
    hard = [failure for failure in found if failure.hard]
    assert len(hard) == 2
    assert hard[0].chain == hard[1].chain


def test_an_exception_group_is_read_through_its_borders() -> None:
    found = told(
        "  + Exception Group Traceback (most recent call last):\n"
        '  |   File "a.py", line 1, in f\n'
        "  | ExceptionGroup: several (1 sub-exception)\n"
        "  +-+---------------- 1 ----------------\n"
        "    | Traceback (most recent call last):\n"
        '    |   File "b.py", line 2, in g\n'
        "    | ValueError: inner\n"
        "    +------------------------------------\n"
    )
    assert ("ValueError", "inner") in found


def test_destructor_noise_is_never_hard() -> None:
    (failure,) = parse(
        "Exception ignored in: <function DeepSpeedCPUAdam.__del__ at 0x7f>\n"
        "Traceback (most recent call last):\n"
        '  File "cpu_adam.py", line 102, in __del__\n'
        "AttributeError: 'DeepSpeedCPUAdam' object has no attribute 'ds_opt_adam'\n"
    )
    assert failure.kind is Kind.NOISE
    assert not failure.hard


def test_a_destructor_s_noise_ends_with_its_exception() -> None:
    noise, failure = parse(
        "Exception ignored in: <function DeepSpeedCPUAdam.__del__ at 0x7f>\n"
        "AttributeError: 'DeepSpeedCPUAdam' object has no attribute 'ds_opt_adam'\n"
        '  File "/opt/env/lib/python3.10/site-packages/torch/utils/cpp_extension.py", line 2096, in _run_ninja_build\n'
        "    raise RuntimeError(message) from e\n"
        "RuntimeError: Error building extension 'cpu_adam'\n"
    )
    assert noise.kind is Kind.NOISE
    assert failure.hard


def test_exit_codes_and_wrappers_are_no_hard_failures() -> None:
    found = parse(
        "E0728 torch/distributed/elastic/api.py:869] failed (exitcode: -9) local_rank: 2 (pid: 77)\n"
        "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: \n"
        "  exitcode  : -9 (pid: 77)\n"
        "subprocess.CalledProcessError: Command '['torchrun', '--nnodes', '1']' returned non-zero exit status 1.\n"
    )
    assert [failure.hard for failure in found] == [False] * 4
    assert (found[0].code, found[0].rank, found[0].died_of) == (-9, 2, True)


def test_native_shell_and_build_failures() -> None:
    for text, kind, name in (
        ("gpu1:12:34 [3] misc/shmutils.cc:112 NCCL WARN Error while creating shared memory", Kind.NATIVE, "NCCL WARN"),
        ("terminate called after throwing an instance of 'c10::Error'", Kind.NATIVE, "c10::Error"),
        ("Indexing.cu:1146: f: block: [58,0,0] Assertion `a < b` failed.", Kind.NATIVE, "Assertion"),
        ("bash: torchrun: command not found", Kind.SHELL, "shell"),
        ("llamafactory-cli: 未找到命令", Kind.SHELL, "shell"),
        (
            "/opt/env/bin/python: can't open file '/home/user/sky': [Errno 2] No such file or directory",
            Kind.SHELL,
            "shell",
        ),
        ("python3.11: can't find '__main__' module in 'src'", Kind.SHELL, "shell"),
        ("ERROR: expected to be idle", Kind.BUILD, "build"),
        ("launcher.py: error: the following arguments are required: --output_dir", Kind.SHELL, "shell"),
        ("cpu_adam.cpp:10:10: fatal error: Python.h: No such file or directory", Kind.BUILD, "build"),
        ("Segmentation fault (core dumped)", Kind.EXIT, "exit"),
        ("srun: error: node7: task 12: Out Of Memory", Kind.EXIT, "exit"),
    ):
        (failure,) = parse(text)
        assert (failure.kind, failure.exception) == (kind, name), text


def test_talk_about_errors_is_no_failure() -> None:
    for text in (
        "0 errors, 0 warnings",
        "[INFO] raise ValueError when the file is missing",
        "UserWarning: this may raise ValueError later",
        "except ImportError:",
        "FutureWarning: old",
    ):
        assert not [failure for failure in parse(text) if failure.hard], text


def test_the_time_before_a_failure_is_read() -> None:
    (failure,) = parse("[2026-11-23 19:01:41,903] [INFO] step\nValueError: x")
    assert failure.time == (11, 23, 19, 1, 41)


def test_levels() -> None:
    stream = Stream("a.log", lambda: iter(()))
    text = (
        "[INFO|trainer.py:3801] 2026-11-23 19:01:41,966 >> a\n[2026-11-23 19:01:41,903] [WARNING] [x] b\n"
        "05/28/2023 17:18:09 - WARNING - datasets - c\nE0728 19:01:41.1 77 x.py:1] d\n/x.py:3: FutureWarning: e\nplain"
    )
    read = lines(Scan(stream, [Stretch(text.encode(), 1)], len(text)), 0)
    assert [line.level for line in read] == [
        Level.INFO, Level.WARNING, Level.WARNING, Level.ERROR, Level.WARNING, Level.PLAIN,
    ]  # fmt: skip


def test_what_a_cpp_program_died_of_is_one_failure() -> None:
    assert (
        told(
            "terminate called after throwing an instance of 'c10::Error'\n"
            "terminate called after throwing an instance of 'c10::Error'\n"
            "  what():  CUDA error: an illegal memory access was encountered\n"
            "  what():  CUDA error: an illegal memory access was encountered\n"
        )
        == [("c10::Error", "CUDA error: an illegal memory access was encountered")] * 2
    )
