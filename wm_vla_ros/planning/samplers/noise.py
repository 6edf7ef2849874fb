"""Smooth noise over a horizon, as a matrix that mixes independent numbers: noise = basis @ normal(K, A).

Smooth noise is what lets few samples do: a sample is then a motion that an arm can follow, and not a
trembling about one.
"""

from __future__ import annotations

import numpy as np

from wm_vla_ros.types import FloatArray

# Of a spline over a horizon.
KNOTS = 4


def spline_basis(horizon: int, knots: int) -> FloatArray:
    """(horizon, knots) matrix of a natural cubic spline through equally spaced knots."""
    from scipy.interpolate import CubicSpline

    at = np.linspace(0.0, 1.0, knots)
    ticks = np.linspace(0.0, 1.0, horizon)
    return CubicSpline(at, np.eye(knots), bc_type="natural")(ticks).astype(np.float32)


def colored_basis(horizon: int, beta: float) -> FloatArray:
    """(horizon, 2 horizon) matrix whose noise has the power spectrum 1 / f^beta and, on average, variance 1.

    Timmer & Koenig, Astron. Astrophys. 300 (1995): each frequency's sine and cosine weigh f^(-beta / 2).
    beta 0 is white, 2 a random walk's colour. Such noise repeats itself; of its period of two horizons the
    first half is taken, so that a plan's end is not tied to its beginning.
    """
    period = 2 * horizon
    index = np.arange(horizon + 1)
    weights = np.maximum(index, 1.0)[:, None] ** (-beta / 2.0)
    # At zero and at half the sampling rate there is no sine, and the cosine counts once.
    weights[1:horizon] *= 2.0
    angle = 2.0 * np.pi * index[:, None] * np.arange(horizon) / period
    basis = np.concatenate([weights * np.cos(angle), (weights * np.sin(angle))[1:horizon]]).T
    return (basis / np.sqrt(np.mean(np.sum(basis**2, axis=1)))).astype(np.float32)


def fewer_numbers(basis: FloatArray) -> FloatArray:
    """(H, H) matrix that makes the noise of `basis` (H, K), K > H, from H random numbers instead of K.

    The Cholesky factor of its covariance. Raises LinAlgError where that is not positive definite.
    """
    return np.linalg.cholesky(basis.astype(np.float64) @ basis.T).astype(np.float32)
