"""`wm-vla eval imagination`: how far ahead world models see, on episodes that they were not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from wm_vla_ros.data.lerobot_reader import EpisodeArrays
from wm_vla_ros.data.sequences import split
from wm_vla_ros.judging import held_out, judged
from wm_vla_ros.judging.imagination import Imagination
from wm_vla_ros.judging.imagination_plot import plot
from wm_vla_ros.judging.imagined_frames import ImaginedFrames
from wm_vla_ros.judging.judged import Draw, Judged, Progress, part
from wm_vla_ros.report import Figure, Report, conditions
from wm_vla_ros.world_models.frame_decoder import FrameDecoder
from wm_vla_ros.world_models.manifest import read_files
from wm_vla_ros.world_models.registry import find


def evaluate(
    world_models: Sequence[str],
    data: Path | None = None,
    episodes: int = 12,
    windows: int = 2000,
    progress: Progress = lambda share, note: None,
) -> tuple[Report, Draw]:
    """The report, and what draws it. Figures of several models are named `<family>.imagination.*`.

    Of models that decode, imagined frames too. condition `decodes`: which do.

    data: a held-out data set, or None to record `episodes` each of reach, push and play. Either way what
    they are compared with (probes, the linear forecast) is fitted on episodes recorded in other scenes.
    Raises ModelRefused for a model, ValueError for data that do not fit or were trained on.
    """
    bench = judged.load_judged(world_models)
    seen = judged.record_or_load(bench, data, episodes, part(progress, 0.0, 0.3))
    found = imagine(bench, seen, windows, episodes, part(progress, 0.3, 0.9))
    drawn = {}
    for source, (name, (imagination, _)) in zip(world_models, found.items(), strict=True):
        manifest = imagination.model.manifest
        if decoder := FrameDecoder.of(manifest, read_files(find(source), manifest)):
            drawn[name] = ImaginedFrames(imagination, decoder)
    figures: list[Figure] = []
    for done, (name, (_, own)) in enumerate(found.items()):
        progress(0.9 + 0.1 * done / len(found), f"{name}: frames")
        own = (*own, *drawn[name].figures()) if name in drawn else own
        figures += judged.named(name, own) if len(found) > 1 else own
    progress(1.0, "")
    circumstances = {
        **bench.conditions(),
        "data": data.name if data else "recorded for this evaluation, scenes never trained on",
        "episodes": seen.episodes,
        "decodes": list(drawn),
        **conditions(),
    }
    imaginations = {name: imagination for name, (imagination, _) in found.items()}
    report = Report("eval imagination", circumstances, tuple(figures))
    return report, lambda path: plot(imaginations, figures, path, drawn)


def imagine(
    bench: Judged, seen: EpisodeArrays, windows: int, episodes: int, progress: Progress
) -> dict[str, tuple[Imagination, tuple[Figure, ...]]]:
    """Every model's imagination on the episodes `seen`, and its figures without a prefix.

    episodes: of each kind, recorded for the linear forecast to be fitted on. Of a robot that nothing here can
    simulate, half of the episodes `seen` are fitted on, and the others judged.
    """
    if bench.robot is None:
        return _within(bench, seen, windows, progress)
    everything = np.arange(seen.episodes)
    scenes = judged.record_probe_scenes(bench, part(progress, 0.0, 0.2))
    total = episodes * len(held_out.KINDS)
    fitted = held_out.record(
        episodes,
        bench.simulated().name,
        bench.cameras,
        lambda done: progress(0.2 + 0.3 * done / total, f"episode {done} of {total} to fit on"),
        fitted=True,
    )
    out = {}
    for done, (name, model) in enumerate(bench.models.items()):
        progress(0.5 + 0.5 * done / len(bench.models), f"{name} imagines")
        imagination = Imagination(model, seen, everything, windows)
        out[name] = (
            imagination,
            (
                *imagination.figures(scenes, scenes.frame_rows),
                *imagination.linear_figures(fitted, fitted.frame_rows),
            ),
        )
    progress(1.0, "")
    return out


def _within(
    bench: Judged, seen: EpisodeArrays, windows: int, progress: Progress
) -> dict[str, tuple[Imagination, tuple[Figure, ...]]]:
    fitted, unseen = split(seen, 0.5, seed=0)
    rows = seen.frame_rows[np.isin(seen.row_episode()[seen.frame_rows], fitted)]
    out = {}
    for done, (name, model) in enumerate(bench.models.items()):
        progress(done / len(bench.models), f"{name} imagines")
        imagination = Imagination(model, seen, unseen, windows)
        figures = *imagination.figures(seen, rows), *imagination.linear_figures(seen, rows)
        out[name] = imagination, figures
    progress(1.0, "")
    return out
