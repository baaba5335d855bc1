"""For all tests: signals as a terminal has them, and properties without a stopwatch."""

import signal

from hypothesis import settings

# nohup and a shell's `&` leave these ignored, and every process that a test starts would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# A property is wrong or right, however long a busy machine takes over one example.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")
