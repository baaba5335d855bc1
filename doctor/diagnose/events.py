"""How failures other than Python tracebacks read, and how a run shows that it began, went on or ended well.

Each format is that of the program named beside it. The words of WORDS are what the fast pass looks for, so that no
stretch with a failure is missed, whether or not a signature knows it.
"""

from __future__ import annotations

import re
from enum import Enum


class Kind(str, Enum):
    """What wrote a failure."""

    PYTHON = "python"  # a traceback or a bare exception line
    NATIVE = "native"  # C++, CUDA, NCCL
    SHELL = "shell"  # a shell or an argument parser that refused
    BUILD = "build"  # a compiler, a linker, pip
    EXIT = "exit"  # somebody else telling that a process died: exit codes, signals
    NOISE = "noise"  # destructors and interpreter shutdown: never the cause of anything


# (kind, format). The named group `message` is the message, `type` a short name where the format has one, `code` an exit
# code, `rank` the rank.
FORMATS: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    (Kind.NATIVE, re.compile(r"(?P<type>NCCL WARN) (?P<message>.+)")),
    (Kind.NATIVE, re.compile(r"terminate called after throwing an instance of '(?P<type>[^']+)'(?P<message>)")),
    (Kind.NATIVE, re.compile(r"^\s*what\(\):\s+(?P<message>.+)")),
    (Kind.NATIVE, re.compile(r"(?P<message>\S+:\d+: .{0,300}?(?P<type>Assertion) [`'].+['`] failed)")),
    (Kind.NATIVE, re.compile(r"\[E(?:\d{3,4} [\d:.]+| ) ?\w+\.cpp:\d+\] (?P<message>.+)")),  # glog, torch C++
    (Kind.NATIVE, re.compile(r"(?P<type>Fatal Python error): (?P<message>.+)")),
    (Kind.NATIVE, re.compile(r"(?P<type>CUDA (?:runtime )?error)(?: \(\d+\) ?)?: (?P<message>.+)")),
    (Kind.NATIVE, re.compile(r"(?P<type>NVRM: Xid)(?P<message>.+)")),  # kernel log
    (Kind.NATIVE, re.compile(r"(?P<message>Unable to determine the device handle for GPU.+)")),  # nvidia-smi
    (Kind.NATIVE, re.compile(r"(?P<message>Memory on the node .+ Ray killed this worker.*)")),  # Ray's memory monitor
    (Kind.EXIT, re.compile(r"failed \(exitcode: (?P<code>-?\d+)\) local_rank: (?P<rank>\d+)(?P<message>)")),  # torchrun
    (Kind.EXIT, re.compile(r"^\s*exitcode\s*: (?P<code>-?\d+) \(pid(?P<message>)")),  # torchrun, its final block
    (Kind.EXIT, re.compile(r"exits with return code = (?P<code>-?\d+)(?P<message>)")),  # DeepSpeed's launcher
    (Kind.EXIT, re.compile(r"(?P<message>Signal \d+ \(SIG\w+\) received by PID \d+)")),
    (Kind.EXIT, re.compile(r"srun: error: \S+: tasks? [\d,-]+: (?P<message>.+)")),
    (Kind.EXIT, re.compile(r"(?P<message>slurmstepd: error: .+)")),
    (
        Kind.EXIT,  # a shell telling how its child died
        re.compile(
            r"(?:^|[\s:\]])(?P<message>(?:Segmentation fault|Bus error|Aborted|Killed|Illegal instruction)"
            r"(?: +\(core dumped\))?)\s*(?:$|[$\w./]*(?:python|torchrun|llamafactory-cli|deepspeed|accelerate))"
        ),
    ),
    (
        Kind.EXIT,
        re.compile(r"(?P<message>(?:段错误|总线错误|已杀死|已终止|已放弃)(?: ?[(（]核心已转储[)）])?)\s*$"),
    ),
    (
        Kind.SHELL,
        re.compile(r"(?:^|: |\$ )(?P<message>[\w./+-]+: (?:command not found|未找到命令|找不到命令|not found))\s*$"),
    ),
    (
        Kind.SHELL,
        re.compile(
            r"^(?:-?(?:ba|z|da|k)?sh|/\S*sh): (?P<message>.+: (?:command not found|not found|Permission denied"
            r"|No such file or directory|未找到命令|没有那个文件或目录|权限不够))\s*$"
        ),
    ),
    (Kind.SHELL, re.compile(r"(?P<message>zsh: command not found: \S+)")),
    (Kind.SHELL, re.compile(r"python[\d.]*(?:\.exe)?: (?P<message>can't (?:open file|find '__main__' module in) .+)")),
    (
        Kind.SHELL,  # cmd.exe, PowerShell
        re.compile(
            r"(?P<message>不是内部或外部命令"
            r"|is not recognized as (?:an internal or external command|the name of a cmdlet))"
        ),
    ),
    (
        Kind.SHELL,  # argparse
        re.compile(
            r"^\S+: error: (?P<message>(?:the following arguments|argument |unrecognized arguments"
            r"|invalid choice|ambiguous option).+)"
        ),
    ),
    (Kind.BUILD, re.compile(r"^\S+?(?::\d+(?::\d+)?|\(\d+\)): (?:fatal )?error:? (?P<message>.+)")),  # gcc, nvcc
    (
        Kind.BUILD,
        re.compile(r"^(?P<message>(?:nvcc (?:fatal|error)|collect2: error|/\S*ld: (?:cannot find|skipping)).*)"),
    ),
    (Kind.BUILD, re.compile(r"^(?P<message>ninja: build stopped.*|FAILED: .+)$")),
    (Kind.BUILD, re.compile(r"^\s*(?:ERROR|error): (?P<message>\S.+)")),  # pip
)

NOISE_HEADER = re.compile(
    r"Exception ignored (?:in|while)|Error in atexit|Error in sys\.excepthook|Exception in thread QueueFeederThread"
)
# The next four are searched in whole texts, by RE2; ^ and $ are the ends of a line.
TRIGGERS = (  # what a line must hold to be the beginning or the statement of a failure
    r"Traceback \(|File \"|Error|Exception|rror: |ERROR: |xception: |rror\(|Interrupt|Exit|Timeout|Fault|Invalid|Enabled"
    r"|NotFound|Failed|OutOfResources|NCCL WARN|terminate called|what\(\):|Assertion |CUDA|Xid|device handle|exitcode"
    r"|return code|received by PID|srun: |slurmstepd|Killed|Ray killed|Aborted|Segmentation|Bus error|Illegal|not found"
    r"|No such file|can't (?:open|find)|Permission denied|FAILED|ninja: |nvcc|collect2|/ld: |\.cpp:|not recognized"
    r"|above exception|段错误|总线错误|已杀死|已终止|已放弃|找不到|未找到|没有那个|权限不够|不是内部"
)
BEGINS = (
    r"Initializing (?:\d+ )?distributed tasks at"  # LLaMA-Factory's launcher, once a launch
    r"|^\+ ?(?:\S+=\S+ )*(?:torchrun|deepspeed|accelerate launch|llamafactory-cli train)\b"  # a shell with set -x
    r"|(?:^|[\])~] ?)[$#] (?:\S+=\S+ )*(?:sudo )?(?:torchrun|deepspeed|accelerate launch|(?:\S*/)?llamafactory-cli train)\b"
    r"|runner\.py:\d+:main\] cmd = "  # DeepSpeed's launcher
)
ENDS_WELL = (
    r"\{['\"]train_runtime['\"]: |^\s*train_runtime +=|Training completed\. Do not forget to share"  # transformers
    r"|^\s*\*{5} (?:train|eval|predict) metrics \*{5}|^\s*(?:eval|predict)_runtime +="
    r"|Model exported to|merged and saved|Process \d+ exits successfully"
)
STEP = r"^\s*\{'loss': '?[\d.]+|\b[1-9]\d*/\d+ \[[\d:]+<[\d:]+, +[\d.]+ ?(?:s/it|it/s)\]"

# Exceptions that only pass on that something else failed.
WRAPPERS = re.compile(
    r"(?:^|\.)(?:ChildFailedError|(?:Base)?ExceptionGroup|Process(?:Exited|Raised)Exception|SignalException"
    r"|RayTaskError(?:\(\w+\))?|RayActorError|ActorDiedError|WorkerCrashedError|KeyboardInterrupt|SystemExit"
    r"|BrokenPipeError|CancelledError|_?RemoteTraceback|BackendCompilerFailed)$"
)
WRAPPER_MESSAGES = re.compile(
    r"^Command '\[?'?\S*(?:torchrun|deepspeed|accelerate|llamafactory|python)"
    r"|^terminate called after throwing an instance of 'c10::Dist\w+Error'$"  # of a watchdog, whose own line says why
    r"|^process \d+ terminated with (?:signal|exit code)|Process \d+ got signal"
    r"|^\s*-- Process \d+ terminated with the following error"  # torch.multiprocessing
    r"|^Failed to import \S+ because of the following error \(look up to see its traceback\):\s*$"  # transformers, trl
    r"|^(?:subprocess-exited-with-error|metadata-generation-failed|legacy-install-failure)"  # pip
    r"|^An error occurred while generating the dataset\s*$"  # datasets
    r"|^Failed (?:to build installable wheels|building wheel)|^Could not build wheels"
    r"|^Caught \w+ in (?:DataLoader worker process|pin memory thread|replica) \d*"  # torch, out of another process or thread
    r"|^Engine core initialization failed|^Engine process failed to start|^EngineCore encountered an issue"  # vLLM
)
# Failures that a dead or late peer causes in the ranks that are well.
ECHOES = re.compile(
    r"NCCL communicator was aborted|Connection (?:reset|closed) by (?:remote )?peer|Broken pipe"
    r"|remote process exited or there was a network error|Some NCCL operations have failed or timed out"
    r"|To avoid data inconsistency, we are taking the entire process down|received Global Trace Dump|heartbeat"
    r"|TCPStore.*(?:broken|reset)|recvValue failed|failed to recv"
)

WORDS = (
    *("Traceback (most recent", "Error:", "Exception:", "Error(", "error:", "ERROR", "CRITICAL", "NCCL WARN"),
    *("terminate called", "what():", "Assertion ", "Fatal Python error", "CUDA error", "CUDA runtime error"),
    *("NVRM: Xid", "device handle for GPU", "exitcode", "return code =", "received by PID", "srun: error"),
    *("Segmentation fault", "Bus error", "Aborted", "Killed", "Illegal instruction", "KeyboardInterrupt", "SIGTERM"),
    *("段错误", "总线错误", "已杀死", "核心已转储", "not found", "未找到命令", "ninja: build stopped", "FAILED"),
    *("Exception ignored", "distributed tasks at", "runner.py:", "torchrun ", "llamafactory-cli train", "[E Process"),
    *("train_runtime", "Training completed", "Watchdog caught", "***** Running", " metrics *****", "slurmstepd"),
    "Ray killed",
)
