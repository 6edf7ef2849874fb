"""What a fingertip does to the objects about it: the part of the dynamics that looks at millimetres.

Whether a push meets its object is a matter of a few millimetres among latents that span the whole table,
and one network for all of a latent hardly learns such an edge. So what a tick does to each object is
predicted by a small network of its own, the same for all of them, from where the object is beside the tip
and beside the others: an interaction network (Battaglia et al., 2016) on positions that are read from the
latent as grounding reads them. What it finds is written back along the directions that grounding reads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Metres that count as one: between tip and object, between objects, of the tip's height. A cube has 25 mm.
_NEAR, _BETWEEN, _HEIGHT = 0.015, 0.03, 0.01
# How many of these are told apart.
_FAR = 6.0
# Motion of an object per tick that counts as one, metres.
_MOTION = 0.004
_WIDTH = 64


class Contact(nn.Module):
    """(latent (B, D), normalised action (B, A)) -> what touching does to the latent (B, D).

    read, offset: latent to positions in metres, the tip's and then those of `objects` objects; write: the
    objects' motion to a change of the latent. All zero until `look`: without knowing where things are nothing
    touches.
    """

    def __init__(self, latent_dim: int, action_dim: int, objects: int, width: int = _WIDTH) -> None:
        super().__init__()
        self.register_buffer("read", torch.zeros(latent_dim, 3 + 3 * objects))
        self.register_buffer("offset", torch.zeros(3 + 3 * objects))
        self.register_buffer("write", torch.zeros(3 * objects, latent_dim))
        self.beside_tip = nn.Linear(4, width)
        self.beside_others = nn.Linear(3, width)
        self.latent_in = nn.Linear(latent_dim, width, bias=False)
        self.action_in = nn.Linear(action_dim, width, bias=False)
        self.hidden = nn.Linear(width, width)
        self.out = nn.Linear(width, 3)
        # Begins without a touch.
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    @torch.no_grad()
    def look(self, weight: Tensor, bias: Tensor, tip: list[int], objects: list[int]) -> None:
        """Read positions as grounding does from now on: weight (D, G) and bias (G,), metres, by columns."""
        columns = [*tip, *objects]
        self.read.copy_(weight[:, columns])
        self.offset.copy_(bias[columns])
        # The least change of a latent that moves the objects, and nothing else that is grounded.
        self.write.copy_(torch.linalg.pinv(weight.double())[objects])

    def forward(self, latent: Tensor, action: Tensor) -> Tensor:
        at = latent @ self.read + self.offset
        tip, objects = at[:, None, :3], at[:, 3:].unflatten(1, (-1, 3))
        height = tip[..., 2:].expand(-1, objects.shape[1], 1) / _HEIGHT
        beside = torch.cat([(objects - tip) / _NEAR, height], 2).clamp(-_FAR, _FAR)
        others = ((objects[:, :, None] - objects[:, None]) / _BETWEEN).clamp(-_FAR, _FAR)
        x = self.beside_tip(beside) + (self.latent_in(latent) + self.action_in(action))[:, None]
        x = x + F.silu(self.beside_others(others)).sum(2)
        motion = self.out(F.silu(self.hidden(F.silu(x)))) * _MOTION
        return motion.flatten(1) @ self.write
