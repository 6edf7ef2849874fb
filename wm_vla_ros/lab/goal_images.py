"""`wm-vla eval goal-image`: does an arm that is shown a picture come to where the picture has it?

In every scene the arm is put at a random place, seen by the camera, and put back. The planner gets that
picture alone; no policy runs. Beside it: the picture of another place in another scene, and an arm that is
not moved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.goals.goal_image import GoalEncoder
from wm_vla_ros.judging import judged
from wm_vla_ros.judging.judged import Draw
from wm_vla_ros.planning.config import MpcConfig
from wm_vla_ros.report import Figure, Report, conditions, mean_interval, proportion
from wm_vla_ros.rig.rig import EpisodeResult, Rig, RigConditions
from wm_vla_ros.rig.towards_goal import MakeGoal, TowardsGoal
from wm_vla_ros.sim.world import SimWorld
from wm_vla_ros.tasks.task import Positions, Task
from wm_vla_ros.world_models.manifest import read_files
from wm_vla_ros.world_models.registry import find

# The planner's costs: the latent's distance alone (DINO-WM, V-JEPA 2-AC), or as the stack ships it, in which
# the goal's metres lead.
COSTS: dict[str, MpcConfig] = {
    "latent": MpcConfig(weight_tip=0.0, weight_objects=0.0, weight_latent=0.0, weight_latent_point=100.0),
    "metres": MpcConfig(),
}
# Where the tip is sent, metres in the base frame; and how far from its start at least.
_LOW, _HIGH, _FAR = (0.15, -0.11, 0.05), (0.25, 0.11, 0.14), 0.06
_TOLERANCE, _TIME_LIMIT = 0.02, 4.0


@dataclass(frozen=True, slots=True)
class Place(Task):
    """Bring the tip to a place that only a picture tells. at: (3,) metres."""

    at: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def distance(self, tip: NDArray[np.float64], cubes: Positions, pads: Positions) -> float:
        """Metres from the tip to the place."""
        return float(np.linalg.norm(np.asarray(tip) - self.at))


@dataclass(frozen=True, slots=True)
class Shown:
    """One episode's goal: where the tip was, and what the cameras saw then."""

    task: Place
    images: Mapping[str, NDArray[np.uint8]]


def show(world: SimWorld, seed: int, cameras: Sequence[str]) -> Shown:
    """Put the arm at the seed's place in the seed's scene, and look."""
    rng = np.random.default_rng([seed, 11])
    layout = world.reset(seed)
    while True:
        at = rng.uniform(_LOW, _HIGH)
        if np.linalg.norm(at - layout.tip) < _FAR:
            continue
        world.reset(seed)
        world.set_tip(at)
        if np.linalg.norm(world.tip() - at) < 0.005:  # the arm reaches it
            break
    images = {camera: world.render(camera).copy() for camera in cameras}
    place = (float(at[0]), float(at[1]), float(at[2]))
    task = Place("goal_image", "look like the goal image", "", None, _TOLERANCE, _TIME_LIMIT, place)
    return Shown(task, images)


def towards_image(images: Mapping[str, NDArray[np.uint8]], encoder: GoalEncoder) -> MakeGoal:
    """Makes a goal of pictures by camera, that is valid for longer than an episode takes."""
    return lambda task, now: encoder.goal(images, now, 1, valid_for=60.0)


def evaluate(
    world_models: Sequence[str],
    seeds: Sequence[int],
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[Report, Draw]:
    """The report and what draws it. Figures of several models are named `<family>.goal_image.*`.

    goal_image.success: by latent distance alone; _metres: by the stack's own weights; _other: towards another
    scene's picture; _still: without a goal. goal_image.distance: where the tip is left, likewise. Raises
    ModelRefused for a model, or one without a goal encoder.
    """
    bench = judged.load_judged(world_models)
    encoders = {
        label: GoalEncoder(model.manifest, read_files(find(name), model.manifest))
        for name, (label, model) in zip(world_models, bench.models.items(), strict=True)
    }
    rig = Rig(bench.robot, bench.cameras.names, (bench.cameras.height, bench.cameras.width))
    shown = [show(rig.world, seed, bench.cameras.names) for seed in seeds]
    figures: list[Figure] = []
    distances: dict[str, list[float]] = {}
    done = 0
    for label, model in bench.models.items():
        own: list[Figure] = []
        for name, (config, which) in _runs().items():
            results = []
            for number, seed in enumerate(seeds):
                goal = None
                if which is not None:
                    images = shown[(number + which) % len(shown)].images
                    goal = towards_image(images, encoders[label])
                driver = TowardsGoal(goal, model, bench.robot, config)
                results.append(rig.run(seed, shown[number].task, driver, RigConditions()))
                done += 1
                progress(done)
            own += _figures(name, results)
            distances[f"{label}{name}"] = [result.distance for result in results]
        figures += judged.named(label, own) if len(bench.models) > 1 else own
    circumstances = {
        **bench.conditions(),
        "seeds": f"{seeds[0]}..{seeds[-1]} ({len(seeds)})",
        "tolerance": _TOLERANCE,
        "time_limit": _TIME_LIMIT,
        **conditions(),
    }
    report = Report("eval goal-image", circumstances, tuple(figures))
    return report, lambda path: plot(shown[0], distances, path)


def runs() -> int:
    """Episodes that each seed of each model takes."""
    return len(_runs())


def plot(shown: Shown, distances: Mapping[str, Sequence[float]], path) -> None:
    """A goal image, and how many episodes end within which distance of it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(9, 4), layout="constrained")
    FigureCanvasAgg(canvas)
    picture, curves = canvas.subplots(1, 2, width_ratios=(1, 2))
    picture.imshow(next(iter(shown.images.values())))
    picture.set(title="a goal image", xticks=[], yticks=[])
    for name, values in distances.items():
        share = np.arange(1, len(values) + 1) / len(values)
        curves.step(1e3 * np.sort(values), share, where="post", label=name)
    curves.axvline(1e3 * _TOLERANCE, color="grey", linewidth=0.8)
    curves.set(xlabel="distance of the tip at the end, mm", ylabel="share of episodes", ylim=(0, 1.02))
    curves.legend(fontsize=8)
    canvas.savefig(path, dpi=80, format="png")


def _runs() -> dict[str, tuple[MpcConfig, int | None]]:
    """Suffix -> the planner's cost, and how many scenes further the picture is from (None: no picture)."""
    return {
        "": (COSTS["latent"], 0),
        "_metres": (COSTS["metres"], 0),
        "_other": (COSTS["latent"], 1),
        "_still": (COSTS["latent"], None),
    }


def _figures(suffix: str, results: Sequence[EpisodeResult]) -> list[Figure]:
    return [
        proportion(f"goal_image.success{suffix}", sum(result.success for result in results), len(results)),
        mean_interval(f"goal_image.distance{suffix}", [result.distance for result in results], "m"),
    ]
