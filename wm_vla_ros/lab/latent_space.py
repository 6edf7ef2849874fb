"""`wm-vla eval latent`: is the world still in the latent, or has the encoder collapsed?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.data.lerobot_reader import EpisodeArrays
from wm_vla_ros.data.sequences import TIP, columns, grounding_names, positions
from wm_vla_ros.judging import judged
from wm_vla_ros.judging.encodings import check_layout, encode_rows, probe_figures, things
from wm_vla_ros.judging.judged import Draw, Progress, part, spread
from wm_vla_ros.lab.tsne import tsne
from wm_vla_ros.report import Figure, Report, conditions
from wm_vla_ros.types import FloatArray
from wm_vla_ros.world_models.protocol import WorldModel

# Below either of these an encoder has collapsed: the arm and three cubes move in more ways than that, and a
# probe that explains less than half has lost what it looks for.
FEWEST_WAYS, LEAST_R2 = 3.0, 0.5
_PERPLEXITY = 30.0


@dataclass(frozen=True)
class LatentSpace:
    """Latents (n, D) of held-out rows (n,), and what is measured of them, without a prefix."""

    rows: NDArray[np.int64]
    latents: FloatArray
    figures: tuple[Figure, ...]


def effective_rank(latents: FloatArray) -> float:
    """In how many directions latents (n, D) spread: 1 to D; 1 also where they do not spread at all.

    exp of the entropy of the covariance's normalised eigenvalues (Roy and Vetterli, "The effective rank",
    EUSIPCO 2007). Raises ValueError for fewer than two latents, or values that are not finite.
    """
    if len(latents) < 2 or not np.all(np.isfinite(latents)):
        raise ValueError(f"the rank needs two or more finite latents, got {latents.shape}")
    covariance = np.atleast_2d(np.cov(np.asarray(latents, np.float64), rowvar=False))
    spectrum = np.linalg.eigvalsh(covariance).clip(0.0)
    # A millionth of a unit: what is left where every observation has the same latent.
    if spectrum.sum() <= 1e-12:
        return 1.0
    share = spectrum / spectrum.sum()
    share = share[share > 0]
    return float(np.exp(-np.sum(share * np.log(share))))


def judge(
    model: WorldModel, data: EpisodeArrays, rows: NDArray[np.int64], scenes: EpisodeArrays
) -> LatentSpace:
    """Probes, rank and verdict of one model on rendered rows of `data`; probes are fitted on `scenes`.

    probe.r2_cube, probe.r2_tip, probe.r2_joints: of all cubes' and the fingertip's positions, and of the
    measured joints (the gripper's pose and opening), with 95 % intervals over episodes.
    latent.collapsed: the rank is below 3, or a probe of cubes or tip below 0.5.
    Raises ValueError for data of another layout.
    """
    for episodes in (data, scenes):
        check_layout(model, episodes)
    joints = [at for at, name in enumerate(data.state_names) if _is_joint(name)]
    wanted = things(grounding_names(data))
    width = len(grounding_names(data))
    wanted["joints"] = [width + at for at in range(len(joints))]

    def truth(episodes: EpisodeArrays, at: NDArray[np.int64]) -> FloatArray:
        return np.concatenate([positions(episodes), episodes.states[:, joints]], axis=1)[at]

    latents = encode_rows(model, data, rows)
    fitted = encode_rows(model, scenes, scenes.frame_rows), truth(scenes, scenes.frame_rows)
    probes = probe_figures(
        "probe.r2_", wanted, fitted, (latents, truth(data, rows)), data.row_episode()[rows]
    )
    rank = effective_rank(latents)
    worst = min(float(figure.value) for figure in probes if not figure.name.endswith("joints"))
    collapsed = rank < FEWEST_WAYS or not worst >= LEAST_R2
    return LatentSpace(
        rows,
        latents,
        (
            *probes,
            Figure("latent.rank", rank, "", len(rows)),
            Figure("latent.dim", model.latent_dim),
            Figure("latent.collapsed", collapsed),
        ),
    )


def evaluate(
    world_models: Sequence[str],
    data: Path | None = None,
    episodes: int = 12,
    samples: int = 2000,
    points: int = 1000,
    progress: Progress = lambda share, note: None,
) -> tuple[Report, Draw]:
    """The report, and what draws it: figures `<family>.probe.*` and `<family>.latent.*`.

    data: a held-out data set, or None to record `episodes` each of reach, push and play. samples: frames to
    encode; points: those of them to embed. Raises ModelRefused for a model, ValueError for data that do not
    fit or were trained on.
    """
    bench = judged.load_judged(world_models)
    seen = judged.record_or_load(bench, data, episodes, part(progress, 0.0, 0.5))
    scenes = judged.record_probe_scenes(bench, part(progress, 0.5, 0.8))
    rows = spread(seen.frame_rows, samples)
    found = {}
    for done, (name, model) in enumerate(bench.models.items()):
        progress(0.8 + 0.2 * done / len(bench.models), f"{name} encodes")
        found[name] = judge(model, seen, rows, scenes)
    progress(1.0, "")
    figures = [figure for name, space in found.items() for figure in judged.named(name, space.figures)]
    circumstances = {
        **bench.conditions(),
        "data": data.name if data else "recorded for this evaluation, scenes never trained on",
        "episodes": seen.episodes,
        "probes_fitted_on": f"{len(scenes.frame_rows)} frames of {scenes.episodes} other scenes",
        **conditions(),
    }
    report = Report("eval latent", circumstances, tuple(figures))
    return report, lambda path: plot(found, seen, points, path)


def plot(spaces: Mapping[str, LatentSpace], data: EpisodeArrays, points: int, path: Path | BinaryIO) -> None:
    """A PNG with t-SNE of every model's latents, by the state of the task and by the instruction."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(12, 4.6 * len(spaces)), layout="constrained")
    FigureCanvasAgg(canvas)
    panels = canvas.subplots(len(spaces), 2, squeeze=False)
    gap = 1e3 * nearest_cube(data)
    for (name, space), (by_gap, by_task) in zip(spaces.items(), panels, strict=True):
        kept = spread(np.arange(len(space.rows)), points)
        rows = space.rows[kept]
        placed = tsne(space.latents[kept], min(_PERPLEXITY, (len(kept) - 1) / 4.0))
        dots = by_gap.scatter(*placed.T, c=gap[rows], s=7, cmap="viridis")
        canvas.colorbar(dots, ax=by_gap, label="fingertip to the nearest cube, mm")
        task = data.episode_tasks[data.row_episode()[rows]]
        for number in np.unique(task):
            mine = placed[task == number]
            by_task.plot(*mine.T, ".", markersize=4, color=f"C{number}", label=data.tasks[number])
        by_task.legend(fontsize=6, loc="center left", bbox_to_anchor=(1.0, 0.5))
        for axes in (by_gap, by_task):
            axes.set(title=f"{name}: t-SNE of {len(kept)} latents", xticks=[], yticks=[])
    canvas.savefig(path, dpi=80, format="png")


def nearest_cube(data: EpisodeArrays) -> NDArray[np.float64]:
    """(N,) metres from the fingertip to the nearest cube."""
    names, where = grounding_names(data), positions(data)
    tip = where[:, columns(names, TIP)[TIP]]
    cubes = [np.linalg.norm(where[:, at] - tip, axis=1) for at in columns(names, "_cube").values()]
    return np.min(cubes, axis=0)


def _is_joint(name: str) -> bool:
    """Whether a proprioception entry (`robots.proprio`) is a measured joint."""
    return name.endswith(".position")
