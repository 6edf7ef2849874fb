"""When the fast loop plans: how often, and how long after the driver's tick."""

from __future__ import annotations

from dataclasses import dataclass

# Plans per second past which nothing is gained: the driver executes one action in the time of four of them.
MAX_RATE = 200.0
# Shares of the planner's period. The first plan after a driver's tick waits for what that tick reports; the
# last one before the next tick must lie `MpcConfig.lead` ahead of it, or it is a plan for the one after.
_PHASE, _TOLERANCE, _DEADLINE = 0.2, 0.15, 0.6
_WHOLE = 1e-6


@dataclass(frozen=True, slots=True)
class Cadence:
    """All in seconds. period: between plans. phase: from the driver's tick to the first plan after it.

    tolerance: of the phase. deadline: no iteration of a plan starts later than this after its beginning.
    """

    period: float
    phase: float
    tolerance: float
    deadline: float


def valid_rates(control_dt: float) -> tuple[int, ...]:
    """Rates in Hz at which plans keep their phase to the ticks of a driver of period `control_dt`, s."""
    base = 1.0 / control_dt
    return tuple(round(base * times) for times in range(1, int(MAX_RATE / base + _WHOLE) + 1))


def cadence(rate: float, control_dt: float) -> Cadence:
    """The cadence of `rate` plans per second, 0 for one per control period of `control_dt` seconds.

    Raises ValueError unless the rate is a whole multiple of the control rate, at most MAX_RATE: at any other
    rate the phase would drift through the driver's tick.
    """
    times = rate * control_dt if rate else 1.0
    if not 1.0 - _WHOLE <= times <= MAX_RATE * control_dt or abs(times - round(times)) > _WHOLE:
        valid = ", ".join(str(one) for one in valid_rates(control_dt))
        raise ValueError(
            f"rate {rate:g} Hz does not fit a control period of {control_dt:g} s; valid: {valid}"
        )
    period = control_dt / round(times)
    return Cadence(period, _PHASE * period, _TOLERANCE * period, _DEADLINE * period)
