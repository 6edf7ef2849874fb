"""How others merge the action chunks of a policy that infers while the arm moves: baselines of `bench delay`.

Rows are numbered by executed actions: row i of a chunk is for the i-th action after its observation. That
is how LeRobot's asynchronous client numbers them, and how real-time chunking leaves out the rows of its
inference delay. Merging happens on absolute quantities, which a row that was left out does not shift.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from wm_vla_ros.types import FloatArray

# LeRobot 0.6.1, async_inference/configs.py: AGGREGATE_FUNCTIONS["weighted_average"], its client's default.
OLD_SHARE, NEW_SHARE = 0.3, 0.7
# Zhao et al., "Learning Fine-Grained Bimanual Manipulation", RSS 2023: w_i = exp(-m * i), w_0 the oldest.
ENSEMBLE_COEFFICIENT = 0.01


@dataclass(frozen=True, slots=True)
class Timed:
    """Actions (n, A) for consecutive numbers; row 0 is number `first`."""

    first: int
    actions: FloatArray

    @property
    def end(self) -> int:
        """The number after the last row."""
        return self.first + len(self.actions)

    def since(self, tick: int) -> Timed:
        """Without the rows before number `tick`."""
        skipped = min(max(0, tick - self.first), len(self.actions))
        return Timed(self.first + skipped, self.actions[skipped:])

    def at(self, tick: int) -> FloatArray | None:
        """Row (A,) of number `tick`, or None outside."""
        return self.actions[tick - self.first] if self.first <= tick < self.end else None


class Merge(Protocol):
    """Keeps what is to be executed, and changes it when a chunk arrives."""

    def reset(self) -> None:
        """A new episode."""
        ...

    def merge(self, chunk: Timed, tick: int) -> Timed:
        """What to execute from number `tick` on, now that `chunk` is here; no rows when it has run out."""
        ...


class Newest:
    """The newest chunk and nothing else."""

    def reset(self) -> None:
        """Nothing is kept."""

    def merge(self, chunk: Timed, tick: int) -> Timed:
        return chunk.since(tick)


class Weighted:
    """0.3 of what was queued for a number and 0.7 of what arrives; what is queued past the new is dropped.

    As `RobotClient._aggregate_action_queues` of LeRobot 0.6.1 with its default aggregate function.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._queue: Timed | None = None

    def merge(self, chunk: Timed, tick: int) -> Timed:
        new = chunk.since(tick)
        actions = np.array(new.actions, np.float32)
        for row in range(len(actions)):
            queued = self._queue.at(new.first + row) if self._queue is not None else None
            if queued is not None:
                actions[row] = OLD_SHARE * queued + NEW_SHARE * actions[row]
        self._queue = Timed(new.first, actions)
        return self._queue


class Ensemble:
    """ACT's temporal ensembling: for each number the weighted mean of every chunk that has it.

    Published with a policy that is asked every tick; here with as many chunks as its latency lets through.
    """

    def __init__(self, coefficient: float = ENSEMBLE_COEFFICIENT) -> None:
        self._coefficient = coefficient
        self.reset()

    def reset(self) -> None:
        self._chunks: list[Timed] = []

    def merge(self, chunk: Timed, tick: int) -> Timed:
        # Oldest first, as the weights count them; a chunk that has run out counts no more.
        self._chunks = sorted((c for c in [*self._chunks, chunk] if c.end > tick), key=lambda c: c.first)
        end = max((c.end for c in self._chunks), default=tick)
        ticks = range(max(tick, min((c.first for c in self._chunks), default=tick)), end)
        if not ticks:
            return chunk.since(tick)
        means = []
        for at in ticks:
            rows = np.stack([row for c in self._chunks if (row := c.at(at)) is not None])
            weights = np.exp(-self._coefficient * np.arange(len(rows)))
            means.append(weights @ rows / weights.sum())
        return Timed(ticks[0], np.array(means, np.float32))


class RealTimeChunking:
    """Real-time chunking's soft mask, as a blend: Black et al., "Real-Time Execution of Action Chunking Flow
    Policies", NeurIPS 2025, eq. (5).

    RTC guides a flow-matching policy, while it denoises, towards what is left of the chunk in execution. The
    shipped policy is a regression: there is no denoising to guide. So the mask itself, from LeRobot's own
    `RTCProcessor.get_prefix_weights`, blends the left-over with the new chunk: this is what the guidance
    aims at, without the freedom that a generative policy has to find another mode that agrees. Setting as
    published: exponential schedule; frozen for the d ticks of the delay, soft up to H - max(d, 1), new from
    there on. (LeRobot's own default ends the soft part at 10 ticks: with delays of 200 ms and more at 50 Hz
    nothing of the mask would be left.) A delay above half a chunk leaves no soft part either way.
    """

    def __init__(self) -> None:
        from lerobot.configs import RTCAttentionSchedule
        from lerobot.policies.rtc.configuration_rtc import RTCConfig
        from lerobot.policies.rtc.modeling_rtc import RTCProcessor

        self._processor = RTCProcessor(RTCConfig(prefix_attention_schedule=RTCAttentionSchedule.EXP))
        self.reset()

    def reset(self) -> None:
        self._queue: Timed | None = None

    def merge(self, chunk: Timed, tick: int) -> Timed:
        new, total = chunk.since(tick), len(chunk.actions)
        actions, queue = np.array(new.actions, np.float32), self._queue
        if queue is not None and len(actions):
            delay = max(0, tick - chunk.first)
            end = max(0, min(total - max(delay, 1), queue.end - chunk.first))
            mask = np.asarray(self._processor.get_prefix_weights(delay, end, total), np.float32)
            skipped = new.first - chunk.first
            for row in range(len(actions)):
                left = queue.at(new.first + row)
                if left is not None:
                    share = mask[skipped + row]
                    actions[row] = share * left + (1.0 - share) * actions[row]
        self._queue = Timed(new.first, actions)
        return self._queue


MERGES: dict[str, type[Merge]] = {
    "newest": Newest,
    "weighted": Weighted,
    "ensemble": Ensemble,
    "rtc": RealTimeChunking,
}
