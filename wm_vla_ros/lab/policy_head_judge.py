"""What a policy's head is worth in imagination, on episodes that its fine-tuning did not see."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wm_vla_ros.data.bootstrap import mean
from wm_vla_ros.judging.encodings import things
from wm_vla_ros.lab.head_dream import ChunkDream, DemonstrationPaths
from wm_vla_ros.report import Figure
from wm_vla_ros.world_models.protocol import WorldModel

_FRAMES = 2000
_BATCH = 256


def figures(
    before: Tensor,
    after: Tensor,
    dream: ChunkDream,
    ways: DemonstrationPaths,
    model: WorldModel,
    deviation: Tensor,
) -> tuple[Figure, ...]:
    """Of up to 2000 frames, evenly spread. before, after: (F, chunk, A) normalised, of all frames of `ways`.

    head.return_NAME: rewards summed over an imagined chunk; of the head before and after, of the recorded
    actions, and of standing still. head.gain: after less before; head.gain_recorded: after less recorded.
    head.l1_NAME: distance to the demonstrator's actions in standard deviations `deviation` (A,). THING_NAME:
    metres from tip or cubes to where the demonstration had them at the end of what counts, as imagined.
    """
    usable = ways.usable
    picks = usable[np.linspace(0, len(usable) - 1, min(_FRAMES, len(usable))).astype(int)]
    samples = ways.samples
    valid = torch.arange(samples.chunk) < torch.from_numpy(samples.valid[picks])[:, None]
    recorded = torch.from_numpy(samples.actions(picks))
    still = torch.zeros_like(recorded)
    still[..., -1] = recorded[:, :1, -1]  # the gripper's is a position, not a displacement
    recorded = torch.where(valid[..., None], recorded, still)
    chunks = {
        "before": dream.actions(before[picks]),
        "after": dream.actions(after[picks]),
        "recorded": recorded,
        "still": still,
    }
    episode = samples.data.row_episode()[samples.rows[picks]]
    returns, apart = {}, {}
    for name, actions in chunks.items():
        returns[name], apart[name] = _imagined(dream, ways, model, picks, actions)
    out = [mean(f"head.return_{name}", values, episode) for name, values in returns.items()]
    out.append(mean("head.gain", returns["after"] - returns["before"], episode))
    out.append(mean("head.gain_recorded", returns["after"] - returns["recorded"], episode))
    used = deviation > 0.0
    for name in ("before", "after"):
        error = ((chunks[name] - recorded)[..., used] / deviation[used]).abs().mean(-1)
        out.append(mean(f"head.l1_{name}", ((error * valid).sum(1) / valid.sum(1)).numpy(), episode, "std"))
    for thing, columns in things(model.grounding_names).items():
        for name, off in apart.items():
            metres = np.linalg.norm(off[:, columns].reshape(len(off), -1, 3), axis=2).mean(1)
            out.append(mean(f"head.{thing}_{name}", metres, episode, "m"))
    return tuple(out)


@torch.no_grad()
def _imagined(
    dream: ChunkDream, ways: DemonstrationPaths, model: WorldModel, picks: NDArray[np.int64], actions: Tensor
) -> tuple[NDArray, NDArray]:
    """Returns (n,), and (n, G) metres from the goal after the last tick that counts."""
    returns, apart = [], []
    for start in range(0, len(picks), _BATCH):
        part = slice(start, start + _BATCH)
        paid, imagined, goals = dream.returns(ways, picks[part], actions[part])
        last = torch.from_numpy(ways.clear[picks[part]] - 1)
        row = torch.arange(len(last))
        returns.append(paid.numpy())
        apart.append(model.ground(imagined[row, last].numpy()) - model.ground(goals[row, last].numpy()))
    return np.concatenate(returns), np.concatenate(apart)
