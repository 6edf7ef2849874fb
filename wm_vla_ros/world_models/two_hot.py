"""Numbers of any size as targets of a classification: symlog and two-hot bins (DreamerV3, Hafner 2025).

A squared error lets the largest returns decide how fast all else is learned; a distribution over bins has
gradients whose size does not depend on the number that is predicted.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def symlog(x: Tensor) -> Tensor:
    """sign(x) ln(|x| + 1): a logarithm that knows signs, and the identity around 0."""
    return x.sign() * torch.log1p(x.abs())


def symexp(x: Tensor) -> Tensor:
    """The inverse of `symlog`."""
    return x.sign() * torch.expm1(x.abs())


class TwoHot(nn.Module):
    """A distribution over `bins` numbers, evenly spaced in symlog between low and high.

    A number is written as weights on the two bins around it, so that their mean is the number itself
    (Hafner et al., "Mastering Diverse Domains through World Models", 2023, equations 9 and 10). in_symlog:
    the mean is taken of symlogs, as TD-MPC2 does, and not of the numbers.

    bins: (bins,) what the mean is taken of.
    """

    bins: Tensor

    def __init__(
        self, bins: int = 101, low: float = -10.0, high: float = 10.0, in_symlog: bool = False
    ) -> None:
        """Raises ValueError unless there are at least two bins and low is less than high."""
        super().__init__()
        if bins < 2 or not low < high:
            raise ValueError(f"two-hot: expected bins >= 2 and low < high, got {bins}, {low} and {high}")
        self.in_symlog = in_symlog
        places = torch.linspace(low, high, bins)
        self.register_buffer("bins", places if in_symlog else symexp(places), persistent=False)

    def encode(self, x: Tensor) -> Tensor:
        """(...) -> weights (..., bins) that sum to 1. Raises ValueError for a number beyond the bins."""
        at = (symlog(x) if self.in_symlog else x).contiguous()
        inside = (at >= self.bins[0]) & (at <= self.bins[-1])  # false for NaN as well
        if not bool(inside.all()):
            first, last = (symexp(end) if self.in_symlog else end for end in (self.bins[0], self.bins[-1]))
            raise ValueError(f"two-hot: {x[~inside][0]:g} lies outside the bins, {first:g} to {last:g}")
        above = torch.searchsorted(self.bins, at).clamp(1, len(self.bins) - 1)
        low, high = self.bins[above - 1], self.bins[above]
        share = ((at - low) / (high - low)).unsqueeze(-1)
        weights = x.new_zeros(*x.shape, len(self.bins))
        weights.scatter_(-1, above.unsqueeze(-1) - 1, 1.0 - share)
        return weights.scatter_(-1, above.unsqueeze(-1), share)

    def mean(self, logits: Tensor) -> Tensor:
        """(..., bins) -> the expected number (...)."""
        mean = logits.softmax(-1) @ self.bins
        return symexp(mean) if self.in_symlog else mean

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy (...) of logits (..., bins) against numbers (...)."""
        return -(self.encode(target) * logits.log_softmax(-1)).sum(-1)
