"""Ctrl-C and SIGTERM end a command wherever it is just then: cleaned up, resumable, exit code 130.

Python raises at the next bytecode, which may lie in a callback that nothing can be raised from (h5py's lists of open
files are full of them) or inside a library that wraps what it meets in an error of its own. Both are undone here.
"""

import _thread
import signal
import sys
import threading
from typing import Any, NoReturn

_HEARD: list[int] = []
_AGAIN = 0.02
"""Seconds after which an interruption that was lost in a callback is raised once more"""


def listen() -> None:
    """From now on SIGTERM is heard as Ctrl-C is, and neither gets lost. A SIGINT that is ignored stays so."""
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    sys.unraisablehook = _raise_again


def interrupted() -> bool:
    """Has an interruption been heard?"""
    return bool(_HEARD)


def _interrupt(number: int, frame: object) -> NoReturn:
    _HEARD.append(number)
    raise KeyboardInterrupt


def _raise_again(lost: Any) -> None:
    """An interruption that came in a callback is sent again shortly after; anything else is told as always."""
    if not issubclass(lost.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(lost)
        return
    again = threading.Timer(_AGAIN, _thread.interrupt_main, [_HEARD[-1] if _HEARD else signal.SIGINT])
    again.daemon = True
    again.start()
