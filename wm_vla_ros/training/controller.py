"""Training of a linear controller in the dream of a world model, by CMA-ES (Ha and Schmidhuber, 2018).

No gradient and no real tick: candidates dream from the same starts, drawn from recorded frames, towards one
of the cubes that they see there, and are worth minus the mean distance from the fingertip to it, both as the
dream says. A temperature above 1 keeps them from exploiting what the model has wrong.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wm_vla_ros import world_models
from wm_vla_ros.data.lerobot_reader import concatenate, load_episodes
from wm_vla_ros.evaluation.controller_trial import BASELINES, trial
from wm_vla_ros.evaluation.imagination import encode_rows
from wm_vla_ros.report import Figure, Report, as_object, conditions, mean_interval, proportion
from wm_vla_ros.robots.spec import load_robot
from wm_vla_ros.training.sequences import TIP, columns
from wm_vla_ros.world_models.controller import CONTROLLER_FILE, MOST, OUTPUTS, Controller
from wm_vla_ros.world_models.manifest import ModelRefused
from wm_vla_ros.world_models.modules import StochasticTransition
from wm_vla_ros.world_models.torch_runtime import TorchWorldModel

REPORT_FILE = "report.json"
_FRAMES = 1024

Progress = Callable[[float, str], None]


@dataclass(frozen=True, slots=True)
class ControllerTraining:
    """How to train. population: candidates of a generation; starts: dreams of each, of `horizon` ticks.

    spread: of the first generation's weights, over inputs of unit variance. trials: real reaches at the end.
    """

    generations: int = 400
    population: int = 32
    starts: int = 12
    horizon: int = 60
    temperature: float = 1.0
    spread: float = 0.05
    seed: int = 0
    trials: int = 30


class Dreams:
    """What weights are worth in dreams from latents (S, D) towards positions (S, 3), metres."""

    def __init__(
        self,
        dynamics: StochasticTransition,
        readout: tuple[Tensor, Tensor],
        starts: Tensor,
        goals: Tensor,
        action_dim: int,
    ) -> None:
        """readout: weight (D, 3) and bias (3,) that read the fingertip from a latent, metres."""
        self.dynamics, self.readout, self.starts, self.goals = dynamics, readout, starts, goals
        self.action_dim = action_dim
        inputs = torch.cat([starts, goals], 1)
        self.mean, self.scale = inputs.mean(0), inputs.std(0).clamp(min=1e-3)

    @property
    def size(self) -> int:
        """Numbers in a candidate: weights over normalised inputs, and biases."""
        return OUTPUTS * (len(self.mean) + 1)

    def linear(self, candidates: Tensor) -> tuple[Tensor, Tensor]:
        """(P, size) to weights (P, 3, D + 3) and biases (P, 3) over inputs as they are."""
        parts = candidates.view(len(candidates), OUTPUTS, -1)
        weight = parts[..., :-1] / self.scale
        return weight, parts[..., -1] - weight @ self.mean

    @torch.no_grad()
    def returns(self, candidates: Tensor, rows: Tensor, horizon: int, temperature: float) -> Tensor:
        """(P,) minus the mean distance in metres over dreams of `horizon` ticks from the starts `rows`."""
        weight, bias = self.linear(candidates)
        count, latent, goal = len(candidates), self.starts[rows], self.goals[rows]
        latent = latent.repeat(count, 1)
        total = torch.zeros(count)
        action = torch.zeros(len(latent), self.action_dim)
        for _ in range(horizon):
            seen = torch.cat([latent.view(count, len(rows), -1), goal.expand(count, -1, -1)], -1)
            wanted = seen @ weight.transpose(1, 2) + bias[:, None]
            action[:, :OUTPUTS] = wanted.clamp(-MOST, MOST).flatten(0, 1)
            latent = self.dynamics.dream(latent, action, temperature)
            tip = (latent @ self.readout[0] + self.readout[1]).view(count, len(rows), 3)
            total -= (tip - goal).norm(dim=-1).mean(1)
        return total / horizon


def evolve(
    dreams: Dreams, training: ControllerTraining, progress: Progress = lambda share, note: None
) -> tuple[NDArray[np.float64], list[float]]:
    """The distribution's last mean, (size,), and the mean return of every generation.

    Deterministic on a CPU for a seed. The covariance is diagonal: with some 400 weights a full one would take
    longer to learn than there are generations (Ros and Hansen, "sep-CMA-ES", PPSN 2008).
    """
    import cma

    torch.manual_seed(training.seed)
    rng = np.random.default_rng(training.seed)
    options = {"popsize": training.population, "seed": training.seed + 1, "CMA_diagonal": True, "verbose": -9}
    strategy = cma.CMAEvolutionStrategy(np.zeros(dreams.size), training.spread, options)
    history = []
    for generation in range(training.generations):
        candidates = strategy.ask()
        # The same starts for all of a generation: differences between candidates are not luck.
        rows = torch.from_numpy(rng.integers(len(dreams.starts), size=training.starts))
        batch = torch.from_numpy(np.asarray(candidates, np.float32))
        returns = dreams.returns(batch, rows, training.horizon, training.temperature)
        strategy.tell(candidates, (-returns).tolist())
        history.append(float(returns.mean()))
        progress((generation + 1) / training.generations, f"mean distance {-history[-1]:.3f} m")
    return np.asarray(strategy.result.xfavorite), history


def train(
    datasets: Sequence[Path],
    world_model: str,
    out: Path,
    training: ControllerTraining,
    progress: Progress = lambda share, note: None,
) -> Report:
    """Train on dreams from `datasets`, write controller and report to `out`, and try it on the simulated arm.

    Raises FileExistsError when `out` holds a controller already, ModelRefused for a world model that cannot
    dream, ValueError for data that do not fit.
    """
    if (out / CONTROLLER_FILE).exists():
        raise FileExistsError(f"{out} holds a controller already; it is never overwritten: give another path")
    model = world_models.load(world_model, runtime="torch")
    assert isinstance(model, TorchWorldModel)
    if not isinstance(model.dynamics, StochasticTransition):
        family = model.manifest.family
        raise ModelRefused(f"controller: expected a family that can dream (rssm, mdn_rnn), found {family}")
    torch.set_num_threads(1)
    robot = load_robot(model.manifest.robot)
    data = concatenate([load_episodes(root, tuple(model.manifest.cameras)) for root in datasets])
    rng = np.random.default_rng(training.seed)
    rows = np.sort(rng.choice(data.frame_rows, min(_FRAMES, len(data.frame_rows)), replace=False))
    dreams = dreams_of(model, model.dynamics, encode_rows(model, data, rows), rng)
    best, history = evolve(dreams, training, lambda share, note: progress(0.7 * share, note))
    weight, bias = dreams.linear(torch.from_numpy(best.astype(np.float32))[None])
    controller = Controller(weight[0].numpy(), bias[0].numpy(), model.encoder_id)
    controller.write(out)
    tried = trial(
        model, robot, controller, training.trials, lambda share: progress(0.7 + 0.3 * share, "reaching")
    )
    report = Report(
        "train controller",
        {
            **asdict(training),
            "world_model": model.manifest.name,
            "encoder_id": model.encoder_id,
            "command": _command(datasets, world_model, out, training),
            "baselines": ", ".join(BASELINES),
            **conditions(),
        },
        (
            Figure("controller.parameters", dreams.size),
            Figure("controller.dream_distance_first", -history[0], "m"),
            Figure("controller.dream_distance_last", -float(np.mean(history[-10:])), "m"),
            *(
                figure
                for name, (wins, left) in tried.items()
                for figure in (
                    proportion(f"{name}.reach.success", sum(wins), len(wins)),
                    mean_interval(f"{name}.reach.distance", left, "m"),
                )
            ),
        ),
    )
    (out / REPORT_FILE).write_text(json.dumps(as_object(report), indent=2) + "\n", encoding="utf-8")
    return report


def dreams_of(
    model: TorchWorldModel,
    dynamics: StochasticTransition,
    latents: NDArray[np.float32],
    rng: np.random.Generator,
) -> Dreams:
    """Dreams from latents (S, D), each towards one of the cubes that is seen in it."""
    names, grounded = model.grounding_names, model.ground(latents)
    tip, cubes = columns(names, TIP)[TIP], list(columns(names, "_cube").values())
    if not cubes:
        raise ModelRefused(f"{model.manifest.name}: expected a grounded cube to reach, found {list(names)}")
    picked = rng.integers(len(cubes), size=len(latents))
    goals = grounded[np.arange(len(latents))[:, None], np.asarray(cubes)[picked]]
    zero = model.ground(np.zeros((1, model.latent_dim), np.float32))[0]
    weight = model.ground(np.eye(model.latent_dim, dtype=np.float32)) - zero
    readout = torch.from_numpy(weight[:, tip]), torch.from_numpy(zero[tip])
    return Dreams(dynamics, readout, torch.from_numpy(latents), torch.from_numpy(goals), model.action_dim)


def _command(datasets: Sequence[Path], world_model: str, out: Path, training: ControllerTraining) -> str:
    """The command line that repeats this training; folders by their names alone."""
    words = ["wm-vla", "train", "controller", "--world-model", Path(world_model).name]
    for root in datasets:
        words += ["--dataset", root.name]
    words += ["--output", out.name, "--generations", str(training.generations)]
    return shlex.join([*words, "--temperature", str(training.temperature), "--seed", str(training.seed)])
