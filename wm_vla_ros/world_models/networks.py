"""Networks that recurrent models are made of. Their products can be lowered to another precision."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Linear(nn.Linear):
    """torch's, but it multiplies in the precision of its weights, whatever it takes and gives."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(self.weight.dtype)).to(x.dtype)


class GruCell(nn.GRUCell):
    """torch's, with the two products in the precision of its weights; gates and state stay in their own."""

    def forward(self, x: Tensor, state: Tensor) -> Tensor:  # type: ignore[override]
        precision = self.weight_hh.dtype
        if precision == state.dtype:
            return super().forward(x, state)
        into = F.linear(x.to(precision), self.weight_ih, self.bias_ih).to(state.dtype)
        kept = F.linear(state.to(precision), self.weight_hh, self.bias_hh).to(state.dtype)
        (reset, update, new), (reset_, update_, new_) = into.chunk(3, -1), kept.chunk(3, -1)
        candidate = torch.tanh(new + torch.sigmoid(reset + reset_) * new_)
        update = torch.sigmoid(update + update_)
        return update * state + (1.0 - update) * candidate


def lower(network: nn.Module, precision: torch.dtype) -> None:
    """Make the products of all `Linear` and `GruCell` in `network` in `precision`."""
    for module in network.modules():
        if isinstance(module, Linear | GruCell):
            module.to(precision)


def remembering(cell: GruCell, bias: float = 3.0) -> GruCell:
    """The same cell with its update gates towards the old state: a tick changes little (Jozefowicz, 2015)."""
    size = cell.hidden_size
    with torch.no_grad():
        cell.bias_ih[size : 2 * size] += bias
    return cell


def mlp(inputs: int, hidden: int, outputs: int, layers: int = 2) -> nn.Sequential:
    """`layers` times linear, layer norm, SiLU; then linear."""
    parts: list[nn.Module] = []
    for size in (inputs, *(hidden,) * (layers - 1)):
        parts += [Linear(size, hidden), nn.LayerNorm(hidden), nn.SiLU()]
    return nn.Sequential(*parts, Linear(hidden, outputs))


def silent(network: nn.Sequential) -> nn.Sequential:
    """The same network with an output of zero: nothing is expected before it is learned (DreamerV3)."""
    nn.init.zeros_(network[-1].weight)  # type: ignore[arg-type]
    nn.init.zeros_(network[-1].bias)  # type: ignore[arg-type]
    return network
