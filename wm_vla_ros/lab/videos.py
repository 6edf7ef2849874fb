"""`wm-vla eval video`: do the frames come that a `video` model sees coming, and the actions?

Over held-out demonstrations, from frames of which the next second is on record. Every error is beside that of
a rival that knows nothing: the present frame, the mean action, the action before.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wm_vla_ros.data.bootstrap import quotient
from wm_vla_ros.data.lerobot_reader import EpisodeArrays
from wm_vla_ros.data.sequences import frames
from wm_vla_ros.judging import judged
from wm_vla_ros.judging.encodings import check_layout, encode_rows
from wm_vla_ros.judging.film_strip import Strip, draw_strips
from wm_vla_ros.judging.judged import Draw, Progress, part
from wm_vla_ros.report import Figure, Report, conditions
from wm_vla_ros.types import FloatArray
from wm_vla_ros.world_models.manifest import read_files
from wm_vla_ros.world_models.protocol import WorldModel
from wm_vla_ros.world_models.registry import find
from wm_vla_ros.world_models.video_files import MODES, Video, VideoModel

# Windows that are drawn.
_DRAWN = 3


@dataclass(frozen=True)
class Watched:
    """W windows of one model. start: (W, D), later: (W, K, D) latents of what was seen. acted: (W, H, A),
    before: (W, A) the action before. true: (W, K + 1, h, w, 3) images. videos: by mode, one per window.
    episode: (W,).
    """

    model: WorldModel
    video: VideoModel
    start: FloatArray
    later: FloatArray
    acted: FloatArray
    before: FloatArray
    true: NDArray[np.uint8]
    videos: dict[str, list[Video]]
    episode: NDArray[np.int64]


def evaluate(
    world_model: str,
    data: Path | None = None,
    episodes: int = 12,
    windows: int = 400,
    progress: Progress = lambda share, note: None,
) -> tuple[Report, Draw]:
    """The report, and what draws true frames over imagined ones.

    data: a held-out data set, or None to record `episodes` each of reach, push and play. Raises ModelRefused
    for a model that makes no videos, ValueError for data that do not fit or were trained on.
    """
    bench = judged.load_judged([world_model])
    (model,) = bench.models.values()
    video = VideoModel(model.manifest, read_files(find(world_model), model.manifest))
    seen = judged.record_or_load(bench, data, episodes, part(progress, 0.0, 0.6))
    check_layout(model, seen)
    watched = watch(model, video, seen, windows, part(progress, 0.6, 1.0))
    circumstances = {
        **bench.conditions(),
        "data": data.name if data else "recorded for this evaluation, scenes never trained on",
        "frames": video.frames,
        "seconds_ahead": round(video.ticks * model.dt, 3),
        **conditions(),
    }
    report = Report("eval video", circumstances, tuple(figures(watched)))
    return report, lambda path: plot(watched, path)


def watch(
    model: WorldModel,
    video: VideoModel,
    data: EpisodeArrays,
    windows: int,
    progress: Progress = lambda share, note: None,
) -> Watched:
    """Windows, evenly spread, of episodes whose instruction the model knows and that somebody demonstrates.

    Raises ValueError when there is none.
    """
    known = {task for task in data.tasks if task in video.tasks}
    task = np.asarray(data.tasks)[data.episode_tasks][data.row_episode()]
    shown = np.unique(data.row_episode()[data.success])
    row, episode = data.frame_rows, data.row_episode()[data.frame_rows]
    fits = (row > data.starts[episode]) & (row + video.ticks < data.starts[episode + 1])
    fits &= np.isin(task[row], sorted(known)) & np.isin(episode, shown)
    rows = row[fits]
    if len(rows) == 0:
        raise ValueError(
            f"no episode shows {video.ticks} ticks of an instruction of the model and its success; the data "
            f"set's are {list(data.tasks)}, the model's {list(video.tasks)}"
        )
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(windows, len(rows))).astype(int))]
    ahead = video.every * np.arange(1, video.frames + 1)
    # The frame in force: data sets may have an image at every second row only.
    images = frames(data, next(iter(model.manifest.cameras)), (rows[:, None] + np.append(0, ahead)).ravel())
    progress(0.1, "encoding")
    start = encode_rows(model, data, rows)
    later = encode_rows(model, data, (rows[:, None] + ahead).ravel()).reshape(len(rows), video.frames, -1)
    progress(0.8, "watching")
    videos = {
        mode: [video.imagine(latent, str(task[at]), mode) for latent, at in zip(start, rows, strict=True)]
        for mode in MODES
    }
    return Watched(
        model,
        video,
        start,
        later,
        data.actions[rows[:, None] + np.arange(video.ticks)],
        data.actions[rows - 1],
        images.reshape(len(rows), video.frames + 1, *images.shape[1:]),
        videos,
        data.row_episode()[rows],
    )


def figures(watched: Watched) -> list[Figure]:
    """Ratios of squared errors, with intervals over episodes; below 1 beats the rival that is named.

    video.inverse_over_mean, _over_previous: actions read off between two true frames. video.MODE_over_still:
    predicted latents over the present one's; video.MODE_pixels_over_still: their images over the present
    image. video.MODE_actions_over_mean, _over_previous: what the arm would be told. video.decoder_over_mean:
    images of true latents, over the mean image.
    """
    video, episode = watched.video, watched.episode
    count, every = len(watched.start), video.every
    mean = watched.acted.mean((0, 1))
    previous = watched.before[:, None]
    steps = np.concatenate([watched.start[:, None], watched.later], 1)
    between = video.between(
        steps[:, :-1].reshape(-1, steps.shape[2]), steps[:, 1:].reshape(-1, steps.shape[2])
    )
    between = between.reshape(count, video.frames * every, -1)

    def ratio(name: str, error: NDArray, rival: NDArray) -> Figure:
        return quotient(f"video.{name}", _squares(error), _squares(rival), episode)

    out = [
        Figure("video.windows", count),
        ratio("inverse_over_mean", between - watched.acted, watched.acted - mean),
        ratio("inverse_over_previous", between - watched.acted, watched.acted - previous),
    ]
    decoder = video.decoder
    true, drawn = decoder.small(watched.true), decoder.draw(watched.start)
    out.append(ratio("decoder_over_mean", drawn - true[:, 0], true[:, 0] - true[:, 0].mean(0)))
    for mode, videos in watched.videos.items():
        latents = np.stack([one.latents for one in videos])
        actions = np.stack([one.actions for one in videos])
        wanted = watched.later[:, -latents.shape[1] :]
        seen = true[:, -latents.shape[1] :]
        images = decoder.draw(latents.reshape(-1, latents.shape[2])).reshape(seen.shape)
        out += [
            ratio(f"{mode}_over_still", latents - wanted, watched.start[:, None] - wanted),
            ratio(f"{mode}_pixels_over_still", images - seen, drawn[:, None] - seen),
            ratio(f"{mode}_actions_over_mean", actions - watched.acted, watched.acted - mean),
            ratio(f"{mode}_actions_over_previous", actions - watched.acted, watched.acted - previous),
        ]
    return out


def plot(watched: Watched, path: Any) -> None:
    """Windows in which most happens, each of another episode: what came, what is decoded of it, what the
    instruction alone has the model see, and what the recorded actions have its dynamics see.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    video, draw = watched.video, watched.video.decoder.draw
    motion = np.square(watched.later[:, -1] - watched.start).sum(1)
    picked: list[int] = []
    for window in np.argsort(-motion):
        if len(picked) < _DRAWN and watched.episode[window] not in watched.episode[picked]:
            picked.append(int(window))
    strips: list[Strip] = []
    titles = [f"{column * video.every * watched.model.dt:.1f} s" for column in range(video.frames + 1)]
    for window in picked:
        start = watched.start[window : window + 1]
        rolled = watched.model.rollout(start, watched.acted[window : window + 1])[0]
        rolled = rolled[video.every - 1 :: video.every]
        subgoal, now = draw(watched.videos["subgoal"][window].latents), draw(start)
        strips += [
            Strip("true", watched.true[window], titles),
            Strip("true, decoded", [*now, *draw(watched.later[window])]),
            Strip("seen coming", [*now, *draw(watched.videos["sequence"][window].latents)]),
            Strip("sub-goal", [*[None] * video.frames, *subgoal]),
            Strip("rollout", [*now, *draw(rolled)]),
        ]
    canvas = Canvas(figsize=(1.5 * (video.frames + 1), 1.5 * len(strips)), layout="constrained")
    FigureCanvasAgg(canvas)
    draw_strips(canvas, strips)
    canvas.savefig(path, dpi=80, format="png")


def _squares(values: NDArray) -> NDArray[np.float64]:
    """(W,) sums of squares over all but the first axis."""
    return np.square(values.astype(np.float64)).reshape(len(values), -1).sum(1)
