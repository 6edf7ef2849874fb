"""The slow loop: takes an instruction and observations, infers, and publishes where to go.

`execute_instruction` runs in a thread of the executor's pool for as long as the instruction takes: each
round takes the newest complete observation, asks the policy for a chunk, imagines where it leads, and
publishes both. The fast loop lives in another process and never waits for this one.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

from wm_vla_msgs import msg as wm
from wm_vla_ros import world_models
from wm_vla_ros.robots.spec import load_robot
from wm_vla_ros.ros import convert, qos
from wm_vla_ros.ros.fault_output import FaultOutput
from wm_vla_ros.ros.instruction_server import CHECK_PERIOD, InstructionRun, InstructionServer
from wm_vla_ros.ros.lifecycle import ManagedNode, NodeSettings
from wm_vla_ros.ros.observer import Observer
from wm_vla_ros.ros.spin import run
from wm_vla_ros.safety.faults import FaultCode
from wm_vla_ros.scheduling import give_way, leave_a_core
from wm_vla_ros.settings import setting
from wm_vla_ros.sim.world import CAMERAS
from wm_vla_ros.tasks.progress import TaskProgress
from wm_vla_ros.tasks.task import from_instruction
from wm_vla_ros.types import LatentGoal, Observation
from wm_vla_ros.vla.open_policy import open_policy
from wm_vla_ros.vla.slow_loop import SlowLoop

SOURCE = "vla"


@dataclass(frozen=True)
class VlaSettings(NodeSettings):
    """Which models, and when an instruction counts as done."""

    robot: str = setting("", "robot spec, by name")
    policy: str = setting(
        "", "LeRobot policy: a name in models/, a folder, or a hub id; or sequence:MODEL, subgoal:MODEL"
    )
    world_model: str = setting("", "world model: a name in models/, or a folder")
    cameras: tuple[str, ...] = setting(CAMERAS, "cameras of the stack; a policy that needs others is refused")
    device: str = setting("auto", "where the policy runs", choices=("auto", "cpu", "cuda"))
    any_instruction: bool = setting(False, "take words that no task defines; progress is then unknown")
    default_time_limit: float = setting(15.0, "for instructions without a task, s", low=1.0, high=600.0)
    rate: float = setting(10.0, "inferences per second at most", low=0.1, high=100.0, live=True)
    vla_latency: float = setting(0.0, "extra latency of every inference, s", low=0.0, high=10.0, live=True)
    tip_std: float = setting(
        0.004, "error of a grounded tip-to-object distance, one sigma, m", low=5e-4, high=0.1
    )
    object_std: float = setting(
        0.008, "the same between objects, which the arm may hide, m", low=5e-4, high=0.1
    )
    done_probability: float = setting(0.8, "success is believed from here on", low=0.5, high=0.999)
    done_confirmations: int = setting(2, "inferences in a row that find the task done", low=1, high=20)
    planner_priority: int = setting(
        20, "SCHED_FIFO priority that the fast loop asks for, 0: none", low=0, high=99
    )
    niceness: int = setting(
        10, "of the active process where the fast loop has no SCHED_FIFO to go first by", low=0, high=19
    )


class VlaNode(ManagedNode[VlaSettings]):
    """Translates between the graph and `SlowLoop`."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("vla_node", VlaSettings, **kwargs)
        self._server: InstructionServer | None = None
        # The newest observation that no inference was made from; written by callbacks, taken by the run.
        self._newest: Observation | None = None
        self._arrived = threading.Event()

    def configure(self) -> None:
        settings = self.settings
        self._spec = load_robot(settings.robot)
        self._model = world_models.load(settings.world_model, robot=self._spec)
        policy = open_policy(
            settings.policy, device=settings.device, robot=self._spec, cameras=settings.cameras
        )
        self._slow = SlowLoop(policy, self._model, self._spec)
        self._goals = self.create_publisher(wm.LatentGoal, "latent_goal", qos.LATEST)
        self._chunks = self.create_publisher(wm.ActionChunk, "action_chunk", qos.LATEST)
        self._faults = FaultOutput(self, self.clock, self.stamps, SOURCE)
        self._observer = Observer(
            self,
            self.stamps,
            self._spec,
            self._slow.cameras,
            on_observation=self._on_observation,
            on_refused=partial(self._faults.warn, FaultCode.REFUSED),
        )
        self._server = InstructionServer(
            self,
            self.clock,
            time_limit=self._time_limit,
            follow=self._follow,
            ended=self._withdraw,
            refused=partial(self._faults.warn, FaultCode.INSTRUCTION_REFUSED),
        )

    def activate(self) -> None:
        # From here on: loading a model on a busy machine takes long enough without it.
        give_way(self.settings.niceness, self.settings.planner_priority)
        leave_a_core()

    def deactivate(self) -> None:
        self.interrupt()

    def interrupt(self) -> None:
        if self._server is not None:
            self._server.stop()

    def cleanup(self) -> None:
        if self._server is not None:
            self._server.destroy()
            self._server = None

    def _time_limit(self, instruction: str) -> float:
        if not self.active:
            raise ValueError("the node is not active")
        try:
            return from_instruction(instruction).time_limit
        except ValueError:
            if not self.settings.any_instruction:
                raise
            return self.settings.default_time_limit

    # The run of an instruction, in a thread of the pool.
    def _follow(self, run: InstructionRun) -> None:
        progress = self._progress(run.instruction)
        self._newest = None  # what was seen before the instruction came is not what it is about
        believed_done = 0
        due = self.clock.now()
        while believed_done < self.settings.done_confirmations:
            # Between inferences the cores are the fast loop's: one per image would keep a core busy.
            run.sleep_until(due)
            seen = self._next_observation(run)
            due = self.clock.now() + 1.0 / self.settings.rate
            chunk, goal = self._slow.infer(seen, run.instruction)
            run.sleep_until(self.clock.now() + self.settings.vla_latency)
            self._chunks.publish(convert.chunk_to_msg(chunk, self.stamps))
            self._goals.publish(convert.goal_to_msg(goal, self.stamps))
            believed_done = believed_done + 1 if self._feed_back(run, progress, goal) else 0

    def _progress(self, instruction: str) -> TaskProgress | None:
        try:
            task = from_instruction(instruction)
        except ValueError:
            return None
        std = self.settings.tip_std if task.pad is None else self.settings.object_std
        return TaskProgress(task, self._model.grounding_names, std)

    def _next_observation(self, run: InstructionRun) -> Observation:
        run.check()
        while (seen := self._newest) is None:
            self._arrived.wait(CHECK_PERIOD)
            self._arrived.clear()
            run.check()
        self._newest = None
        return seen

    def _feed_back(self, run: InstructionRun, progress: TaskProgress | None, goal: LatentGoal) -> bool:
        """Feedback from where the goal's path begins (now) and ends. Whether the task is believed done."""
        if progress is None:
            run.report(math.nan, math.nan)
            return False
        path = self._model.ground(goal.embeddings)
        run.report(progress.distance(path[0]), progress.probability(path[-1]))
        return progress.probability(path[0]) >= self.settings.done_probability

    def _withdraw(self, instruction: str) -> None:
        self._goals.publish(convert.withdrawal(instruction, self.clock.now(), self.stamps))

    # Callbacks.
    def _on_observation(self, observation: Observation) -> None:
        self._newest = observation
        self._arrived.set()

    def health(self) -> tuple[str, dict[str, object]]:
        self._faults.flush()
        instruction = self._server.current if self._server else ""
        return "", {"instruction": instruction, "world_model": self._model.manifest.name}


def main() -> NoReturn:
    """Entry point. The exit code says whether the node ended as it should."""
    run(VlaNode, threads=3)


if __name__ == "__main__":
    main()
