"""Sign hashes: vectors of one direction have like hashes, so that what is alike is found without comparing all with all.

    h(x) = sign(x H), H [D, m] drawn once from a normal distribution: two vectors differ in arccos(cos) / pi of the bits (Charikar, 2002)

`Buckets` groups the bits into signatures: what shares all bits of a signature with a query is alike to it, with the probability
(1 - arccos(cos) / pi) ** width. No gradient goes through a hash.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from penchant.batch import Segments


class Planes(nn.Module):
    """The side of m planes through the origin that a vector is on: float [*, D] -> int8 [*, m], 1 or -1, and -1 on a plane."""

    plane: Tensor

    def __init__(self, dim: int, bits: int) -> None:
        super().__init__()
        self.register_buffer("plane", torch.randn(dim, bits, generator=torch.Generator().manual_seed(0)))

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return ((x.detach().float() @ self.plane) > 0).to(torch.int8) * 2 - 1


class Buckets(nn.Module):
    """Hash-bucket attention (Cao et al., "Sampling Is All You Need on Modeling Long-Term User Behaviors for CTR Prediction", CIKM 2022).

    `read` sums an owner's vectors by the bucket that they fall into, of each signature, whatever the candidates: all that is kept of a
    past, however long. `forward` takes of each signature the candidate's bucket, of length 1, and the mean over signatures: 0 where
    nothing of the past falls together with it.
    """

    weight: Tensor

    def __init__(self, dim: int, bits: int, width: int) -> None:
        """bits: m; width: tau, of a signature, which divides m."""
        super().__init__()
        if bits % width:
            raise ValueError(f"signatures of {width} bits share {bits} bits, which is no multiple of it.")
        self.planes, self.signatures, self.size = Planes(dim, bits), bits // width, 2**width
        self.register_buffer("weight", 2 ** torch.arange(width), persistent=False)

    def bucket(self, x: Tensor) -> Tensor:
        """[*, D] -> int64 [*, signatures], which bucket of all signatures, end to end, a vector falls into."""
        bit = (self.planes(x) > 0).unflatten(-1, (self.signatures, -1)).long()
        first = torch.arange(self.signatures, device=x.device) * self.size
        place: Tensor = first + (bit * self.weight).sum(-1)
        return place

    def read(self, past: Tensor, events: Segments) -> Tensor:
        """[E, D] -> float32 [R, signatures * 2 ** width, D], the sums of each owner's buckets, each of length 1, or 0."""
        buckets = self.signatures * self.size
        place = self.bucket(past) + events.row[:, None] * buckets
        total = past.new_zeros(events.owners * buckets, past.shape[-1], dtype=torch.float32)
        for column in place.unbind(1):
            total = total.index_add(0, column, past.float())
        return nn.functional.normalize(total, dim=-1).view(events.owners, buckets, -1)

    def forward(self, item: Tensor, kept: Tensor) -> Tensor:
        """Candidates [R, C, D], kept [R, buckets, D] -> [R, C, D]."""
        owner = torch.arange(len(kept), device=kept.device)[:, None, None] * kept.shape[1]
        place = (self.bucket(item) + owner).flatten(0, 1)
        mean = nn.functional.embedding_bag(place, kept.flatten(0, 1), mode="mean")
        return mean.view(*item.shape[:2], -1)
