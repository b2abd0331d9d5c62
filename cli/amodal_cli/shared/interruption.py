"""Ctrl-C and SIGTERM end any command cleanly and resumably, with exit code 130.

Python raises KeyboardInterrupt at the next bytecode. That may lie in a callback that cannot raise (h5py's lists of open
files have many), or in a library that wraps the exception in one of its own. Both cases are handled here.
"""

import _thread
import signal
import sys
import threading
from typing import Any, NoReturn

_SIGNALS: list[int] = []  # Numbers of the signals received so far
_RETRY_DELAY = 0.02  # Seconds until an interruption that was lost in a callback is raised again


def install_handlers() -> None:
    """Handle SIGTERM like Ctrl-C, and lose neither. A SIGINT that is ignored stays ignored."""
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    sys.unraisablehook = _retry_interrupt


def was_interrupted() -> bool:
    """Return whether a signal was received."""
    return bool(_SIGNALS)


def _interrupt(number: int, frame: object) -> NoReturn:
    _SIGNALS.append(number)
    raise KeyboardInterrupt


def _retry_interrupt(unraisable: Any) -> None:
    """Send an interruption again that a callback swallowed; report any other exception as Python does."""
    if not issubclass(unraisable.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(unraisable)
        return
    timer = threading.Timer(_RETRY_DELAY, _thread.interrupt_main, [_SIGNALS[-1] if _SIGNALS else signal.SIGINT])
    timer.daemon = True
    timer.start()
