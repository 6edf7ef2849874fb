"""A node's way to publish faults: on `faults` and in its log, a cause that keeps coming only once a while.

Here, because planner, policy and driver each have one.
"""

from __future__ import annotations

from rclpy.node import Node

from wm_vla_msgs import msg as wm
from wm_vla_ros.clock import Clock
from wm_vla_ros.ros import convert, qos
from wm_vla_ros.ros.time import StampConverter
from wm_vla_ros.safety.faults import FaultCode, FaultReporter
from wm_vla_ros.types import Fault, Severity


class FaultOutput:
    """Faults of `source`, and those handed in. log_from: severity from which a fault is logged, too.

    Any thread may call it.
    """

    def __init__(
        self,
        node: Node,
        clock: Clock,
        stamps: StampConverter,
        source: str,
        log_from: Severity = Severity.WARNING,
    ) -> None:
        self._clock = clock
        self._stamps = stamps
        self._source = source
        self._log_from = log_from
        self._logger = node.get_logger()
        self._publisher = node.create_publisher(wm.Fault, "faults", qos.FAULTS)
        self._reporter = FaultReporter(self.publish)

    def publish(self, fault: Fault) -> None:
        """Publish it at once."""
        self._publisher.publish(convert.fault_to_msg(fault, self._stamps))
        if fault.severity >= self._log_from:
            self._logger.warning(f"{fault.code}: {fault.text}")

    def report(self, fault: Fault) -> None:
        """Publish it, unless one of its code and source just was; see `FaultReporter`."""
        self._reporter.report(self._clock.now(), fault.code, fault.severity, fault.source, fault.text)

    def warn(self, code: FaultCode, text: str) -> None:
        """Report a WARNING of the node's own."""
        self._reporter.report(self._clock.now(), code, Severity.WARNING, self._source, text)

    def flush(self) -> None:
        """Publish what was suppressed and is due. To be called every tick."""
        self._reporter.flush(self._clock.now())
