"""t-SNE, exact, for some hundred points: an embedding in the plane that keeps neighbours together.

L. van der Maaten and G. Hinton, "Visualizing Data using t-SNE", JMLR 9, 2008: equations 1 to 5 and algorithm
1, with the early exaggeration, momentum and gains of its section 3.4. The step grows with the number of
points as in Belkina et al., Nature Communications 10, 2019; it begins at the principal components.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MOST = 1500
_EXAGGERATION, _EXAGGERATED, _ITERATIONS = 12.0, 125, 600


def tsne(points: NDArray, perplexity: float = 30.0) -> NDArray[np.float64]:
    """Points (N, D) in the plane, (N, 2). The same points give the same embedding.

    Raises ValueError for more than 1500 points, for values that are not finite, or when the perplexity is
    not below a third of N.
    """
    points = np.asarray(points, np.float64)
    count = len(points)
    if points.ndim != 2 or count > MOST or not np.all(np.isfinite(points)):
        raise ValueError(f"t-SNE takes up to {MOST} finite points (N, D), got shape {points.shape}")
    if not 1.0 < perplexity < count / 3.0:
        raise ValueError(f"perplexity must lie between 1 and a third of {count} points, got {perplexity}")
    affinity = _conditional(_distances(points), perplexity)
    affinity = np.maximum((affinity + affinity.T) / (2.0 * count), 1e-12)
    centred = points - points.mean(0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    placed = centred @ axes[:2].T if points.shape[1] > 1 else np.repeat(centred, 2, axis=1)
    placed = 1e-4 * placed / max(float(placed[:, 0].std()), 1e-12)
    step = max(count / _EXAGGERATION / 4.0, 50.0)
    velocity, gains = np.zeros_like(placed), np.ones_like(placed)
    for iteration in range(_ITERATIONS):
        early = iteration < _EXAGGERATED
        kernel = 1.0 / (1.0 + _distances(placed))
        np.fill_diagonal(kernel, 0.0)
        pull = (affinity * (_EXAGGERATION if early else 1.0) - kernel / kernel.sum()) * kernel
        gradient = 4.0 * (pull.sum(1)[:, None] * placed - pull @ placed)
        same = np.sign(gradient) == np.sign(velocity)
        gains = np.maximum(np.where(same, gains * 0.8, gains + 0.2), 0.01)
        velocity = (0.5 if early else 0.8) * velocity - step * gains * gradient
        placed = placed + velocity
        placed -= placed.mean(0)
    return placed


def _distances(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared Euclidean distances (N, N)."""
    norms = np.sum(points**2, axis=1)
    return np.maximum(norms[:, None] + norms - 2.0 * points @ points.T, 0.0)


def _conditional(distances: NDArray[np.float64], perplexity: float) -> NDArray[np.float64]:
    """p(j|i) (N, N) of Gaussians whose widths give each point the same perplexity: bisection on them all."""
    count = len(distances)
    # Nearest neighbour at 0: no row underflows, whatever the unit.
    others = distances + np.diag(np.full(count, np.inf))
    others = others - others.min(1, keepdims=True)
    scale = np.mean(others[np.isfinite(others)]) + 1e-12
    low, high = np.full(count, 1e-10 / scale), np.full(count, 1e10 / scale)
    for _ in range(64):
        beta = np.sqrt(low * high)
        weights = np.exp(-others * beta[:, None])
        p = weights / weights.sum(1, keepdims=True)
        entropy = -np.sum(p * np.log(np.maximum(p, 1e-300)), axis=1)
        wide = entropy > np.log(perplexity)
        low, high = np.where(wide, beta, low), np.where(wide, high, beta)
    return p
