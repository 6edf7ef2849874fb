"""One writer: the arm has one owner at a time, and everybody else is refused by name."""

from __future__ import annotations

from wm_vla_ros.safety.faults import FaultCode
from wm_vla_ros.safety.gate import Refused


class Arbiter:
    """Who may command the arm: one source, and of that source one writer.

    source: the role in the plan ("mpc"). writer: the publisher behind it, where the transport tells
    ("" where it does not): two planners that both call themselves "mpc" are still two writers. The first
    writer whose plan is accepted keeps the arm until it has been silent for `silence` seconds.
    """

    def __init__(self, owner: str, silence: float) -> None:
        self._owner = owner
        self._silence = silence
        self._writer: str | None = None
        self._heard_at = float("-inf")

    def check(self, source: str, writer: str, now: float) -> None:
        """Raises Refused(FOREIGN) unless (source, writer) is the one that commands at `now`."""
        if source != self._owner:
            raise Refused(
                FaultCode.FOREIGN, f"source {source[:64]!r} does not own the arm, {self._owner!r} does"
            )
        if self._writer not in (None, writer) and now - self._heard_at < self._silence:
            raise Refused(
                FaultCode.FOREIGN,
                f"a second writer ({writer[:64]!r}) as {source!r} beside {(self._writer or '')[:64]!r}",
            )

    def heard(self, writer: str, now: float) -> None:
        """`writer` sent a plan that was accepted: only that, never a refused one, takes or keeps the arm."""
        self._writer = writer
        self._heard_at = now
