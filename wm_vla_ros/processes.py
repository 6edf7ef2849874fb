"""A child process that must not outlive the one that started it."""

from __future__ import annotations

import ctypes
import os
import signal

# In a child's environment: the process id of the one that it must not outlive.
PARENT_VARIABLE = "WM_VLA_PARENT_PID"
_PR_SET_PDEATHSIG = 1


def end_with(parent: int, number: signal.Signals) -> bool:
    """Have the kernel send `number` to this process when the thread of `parent` (pid) that started it ends.

    False when it has ended already. Raises OSError where the kernel refuses.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    return os.getppid() == parent
