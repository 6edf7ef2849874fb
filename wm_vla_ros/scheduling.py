"""What keeps a loop on time beside others on the machine: scheduling, and the interpreter's habits."""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections.abc import Callable

# Not setcap on the interpreter: the loader ignores LD_LIBRARY_PATH in a program with capabilities, and the
# ROS wheels are found through it.
REALTIME_CURE = 'echo "$USER - rtprio 80" | sudo tee /etc/security/limits.d/wm-vla.conf, then log in again'
REALTIME_HINT = f"SCHED_FIFO refused, ticks may come late on a busy machine; to permit it: {REALTIME_CURE}"
# A Python thread keeps the interpreter lock for this long while another one waits for it. The default
# of 5 ms is a quarter of a control period.
SWITCH_INTERVAL = 0.0005


def request_fifo(process: int, loop: int, warn: Callable[[str], None]) -> bool:
    """Put every thread of this process under SCHED_FIFO at `process`, the calling one at `loop`.

    Priorities are 1 to 99; `loop` 0 asks for nothing. All threads, because any of them may hold the
    interpreter lock: one that the scheduler passes over while it does would stop the loop all the same.
    Where it is not permitted, say so once through `warn`, with the way to permit it, and return False.
    """
    if loop == 0:
        return False
    own = threading.get_native_id()
    try:
        _for_each_thread(lambda task: os.sched_setscheduler(task, os.SCHED_FIFO, os.sched_param(process)))
        os.sched_setscheduler(own, os.SCHED_FIFO, os.sched_param(loop))
    except PermissionError:
        warn(REALTIME_HINT)
        return False
    return True


def fifo_permitted() -> bool:
    """Whether a thread of this process may run under SCHED_FIFO. Only a short-lived thread is changed."""
    allowed = []

    def attempt() -> None:
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        except OSError:
            return
        allowed.append(True)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    return bool(allowed)


def give_way(niceness: int, fast_priority: int) -> None:
    """Be nice, unless the fast loop goes first by SCHED_FIFO already.

    A nice process gives way to every program of the machine: beside two busy ones the policy had a sixteenth
    of a core, and finished no inference in 20 s. fast_priority: what the fast loop asks for; 0: nothing.
    """
    if not (fast_priority and fifo_permitted()):
        be_nice(niceness)


def be_nice(niceness: int) -> None:
    """Set the niceness (0 to 19) of every thread of this process; threads made later inherit it.

    On Linux niceness belongs to a thread: os.nice would reach the calling one alone. And where sessions are
    scheduled as groups (sched(7), "The autogroup feature"; the default of most distributions) it counts
    among the threads of one session: all nodes that `wm-vla up` starts are in its own.
    """
    _for_each_thread(lambda task: os.setpriority(os.PRIO_PROCESS, task, niceness))


def leave_a_core() -> None:
    """Keep every thread of this process, and those made later, off the last core that it may use.

    For what need not be on time: the fast loop and the driver then have a core on which they wait for each
    other alone, whatever the others do, and may use the rest too. Needs no permission. Does nothing where
    there is one core.
    """
    cores = os.sched_getaffinity(0)
    if len(cores) > 1:
        _stay_on(cores - {max(cores)})


def keep_to_last_core() -> None:
    """Keep every thread of this process, and those made later, on the core that `leave_a_core` leaves.

    For the driver under SCHED_FIFO. The kernel gives normal threads that starve on a core 50 ms of each
    second there, above every priority, and a real-time thread that is runnable there may wait beside an idle
    core. What starves in a stack is the policy, which is never on that core.
    """
    _stay_on({max(os.sched_getaffinity(0))})


def _stay_on(cores: set[int]) -> None:
    _for_each_thread(lambda task: os.sched_setaffinity(task, cores))


def _for_each_thread(work: Callable[[int], None]) -> None:
    for task in os.listdir("/proc/self/task"):
        try:
            work(int(task))
        except ProcessLookupError:  # ended since it was listed
            continue


def settle_heap() -> None:
    """Call once after warm-up: what lives now lives for good, so the collector need never walk it again."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    gc.collect()
    gc.freeze()
