"""Log diagnosis: a training log → failures → the cause behind them, or a plain "not known".

read      bytes of logs as they are (files, standard input, directories, gz, zst, UTF-16, GBK)
scan      one fast pass that keeps only the stretches worth reading
lines     stretches → lines with rank, level and place
failures  lines → failures: tracebacks, native aborts, exit codes, build and shell errors
match     lines → signatures of the knowledge base that fit
rank      fits + failures → findings, root cause first
"""

from doctor.diagnose.engine import Diagnosis, Unrecognised, diagnose
from doctor.diagnose.read import UnreadableLog

__all__ = ["Diagnosis", "UnreadableLog", "Unrecognised", "diagnose"]
