"""The causes that stop or change a motion, one stable word each, and a reporter that never floods."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from wm_vla_ros.types import Fault, Severity


class FaultCode(StrEnum):
    """One word per cause. Published on `faults`, so a word never changes its meaning."""

    # A plan that is refused as a whole: nothing of it reaches the backend.
    NONFINITE = "nonfinite"  # NaN, Inf, or a number beyond float32 in an action or a time
    SHAPE = "shape"  # wrong number of actions or of values per action
    SPACE = "space"  # an action space that the driver does not know
    PERIOD = "period"  # dt that the action space cannot have
    UNKNOWN_NAME = "unknown_name"
    DUPLICATE_NAME = "duplicate_name"
    MISSING_NAME = "missing_name"
    RANGE = "range"  # outside [-1, 1], the gripper's [0, 1], or a joint's mechanical limits
    STALE = "stale"  # stems from an observation that is too old
    EXPIRED = "expired"  # its last action has already run out
    FUTURE = "future"  # stamped, starting or ending too far ahead
    REPLAY = "replay"  # a sequence number that was already seen
    FOREIGN = "foreign"  # from somebody who is not the owner of the arm
    LATCHED = "latched"  # sent, or enabled, while the e-stop is latched
    DISABLED = "disabled"  # sent while the driver is not enabled
    # The gate changed a motion.
    POSITION_LIMITED = "position_limited"
    RATE_LIMITED = "rate_limited"
    EARLY = "early"  # a tick before its time: nothing was written
    # The arm holds.
    STARVED = "starved"  # no valid action in force
    UNREACHABLE = "unreachable"  # the action map found no finite joint target
    MEASUREMENT = "measurement"  # joints not finite, stale, or out of limits
    BACKEND = "backend"  # the arm's own interface raised
    JOINT_JUMP = "joint_jump"  # joints are measured where no motion can have brought them
    # The arm is stopped for good, until reset and enable.
    ESTOP = "estop"
    LATCH_STORE = "latch_store"  # the latch could not be kept on disk, or read back
    # The planner makes no plan, or starts its belief anew.
    OBSERVATION_OLD = "observation_old"  # the newest image is too old to plan on
    JOINTS_OLD = "joints_old"  # the newest joint_states are too old to plan on
    NO_FINITE_COST = "no_finite_cost"  # every imagined future costs NaN or infinity
    DIVERGENCE = "divergence"  # prediction and observation part
    # The planner goes on, but worse than it should.
    DEGRADED = "degraded"  # too many of its cycles take longer than their period
    # What the planner or the policy does not take in; what it had before stays in force.
    REFUSED = "refused"  # a message that cannot be used
    GOAL_REFUSED = "goal_refused"
    INSTRUCTION_REFUSED = "instruction_refused"


@dataclass(slots=True)
class _Channel:
    published: float
    suppressed: int = 0
    severity: Severity = Severity.WARNING
    text: str = ""


class FaultReporter:
    """Publishes the first fault of a (code, source) at once and equal ones at most every `period` seconds.

    A fault that was suppressed is published by the next `flush` after the period, with its count, so that
    each one is followed by a message within `period` plus one tick and none disappears.
    `publish` is called without the reporter's lock held. Any thread may report.
    """

    def __init__(self, publish: Callable[[Fault], None], period: float = 0.1) -> None:
        self._publish = publish
        self._period = period
        self._channels: dict[tuple[str, str], _Channel] = {}
        self._lock = threading.Lock()  # report() comes from callbacks, flush() from the tick

    def report(self, now: float, code: FaultCode | str, severity: Severity, source: str, text: str) -> None:
        with self._lock:
            channel = self._channels.get((code, source))
            if channel is not None and now - channel.published < self._period:
                channel.suppressed += 1
                channel.severity = severity
                channel.text = text
                return
            repeats = channel.suppressed if channel is not None else 0
            self._channels[(code, source)] = _Channel(now)
        self._publish(Fault(now, str(code), severity, source, _counted(text, repeats)))

    def flush(self, now: float) -> None:
        """Publish what was suppressed and is due. To be called every tick."""
        due: list[Fault] = []
        with self._lock:
            for (code, source), channel in self._channels.items():
                if channel.suppressed and now - channel.published >= self._period:
                    text = _counted(channel.text, channel.suppressed - 1)
                    due.append(Fault(now, str(code), channel.severity, source, text))
                    channel.published = now
                    channel.suppressed = 0
            # Sources are the senders' own words: those that fell silent must not pile up.
            self._channels = {
                key: channel
                for key, channel in self._channels.items()
                if now - channel.published < self._period
            }
        for fault in due:
            self._publish(fault)


def _counted(text: str, repeats: int) -> str:
    return f"{text} (and {repeats} more like it)" if repeats else text
