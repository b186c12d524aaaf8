"""Gated recurrent units over things laid end to end: as an extractor, and with attention in their gates.

    u = sigmoid(W_u x + U_u h + b_u)                        update gate, towards the candidate
    r = sigmoid(W_r x + U_r h + b_r)                        reset gate
    c = tanh(W_c x + r o (U_c h + d) + b_c)                 reset "after" the product: Chung et al. (2014), DIEN eq. 4, torch.nn.GRU
    c = tanh(W_c x + U_c (r o h) + b_c)                     reset "before" it: Cho et al. (2014), TensorFlow's GRUCell, DIEN's authors
    h' = h + v o (c - h)

    v = u                             GRU
    v = u, with W (a x) for W x       AIGRU   (DIEN, AAAI 2019, eq. 9)
    v = a                             AGRU    (eq. 10)
    v = a u                           AUGRU   (eq. 11-12)
    v = u + a (1 - u)                 AUGRU as the authors' code has it: it scales the gate that keeps the state, so that a = 0 is a
                                      plain step and a = 1 forgets all

Sequences go longest first and a step takes all that are still going, so that nothing is filled up. W x is made for all events at
once, before the first step, and once an event however many candidates it is asked about.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from penchant.batch import Segments

Reset = Literal["after", "before"]
Evolution = Literal["augru", "augru_authors", "agru", "aigru"]


class Cell(nn.Module):
    """One recurrent unit's weights, gates in the order r, u, c; `input` makes W x + b of all things."""

    def __init__(self, dim: int, hidden: int, *, reset: Reset = "after") -> None:
        super().__init__()
        self.reset, self.hidden = reset, hidden
        self.input, self.state = nn.Linear(dim, 3 * hidden), nn.Linear(hidden, 3 * hidden, bias=False)
        self.offset = nn.Parameter(torch.empty(hidden)) if reset == "after" else None  # d
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(hidden**-0.5), hidden**-0.5)

    def states(self, things: Segments, gates: Tensor) -> Tensor:
        """gates = input(x) [N, 3 H] -> the plain unit's state after each thing [N, H]."""
        order, going = things.steps
        packed = self.run(gates.index_select(0, order)[:, None], None, None, going)
        return torch.empty_like(packed).index_copy(0, order, packed).squeeze(1)

    def last(self, things: Segments, gates: Tensor, some: Tensor | None, all_of: Tensor | None) -> Tensor:
        """gates [N, 3 H] or [N, C, 3 H]; v = some + all_of u, [N, C] each -> the last state [R, C, H], 0 of an owner with nothing."""
        if not things.total:
            columns = some.shape[1] if some is not None else gates.shape[1] if gates.dim() == 3 else 1
            return gates.new_zeros(things.owners, columns, self.hidden)
        order, going = things.steps
        gates = gates.index_select(0, order)
        some, all_of = (None if v is None else v.index_select(0, order) for v in (some, all_of))
        packed = self.run(gates if gates.dim() == 3 else gates[:, None], some, all_of, going)
        return things.last(packed.index_select(0, things.ends))

    def run(self, gates: Tensor, some: Tensor | None, all_of: Tensor | None, going: tuple[int, ...], first: Tensor | None = None) -> Tensor:
        """The state after each step [N, C, H], in the weights' dtype. All in step-major order; first: [going[0], C, H], zeros otherwise."""
        with torch.autocast(gates.device.type, enabled=False):
            wanted = [None if v is None else v.to(self.state.weight.dtype) for v in (gates, some, all_of, first)]
            wanted += [self.state.weight, self.offset]
            keep = torch.is_grad_enabled() and any(v is not None and v.requires_grad for v in wanted)  # inside, nobody could tell
            states: Tensor = _Recurrence.apply(*wanted, going, self.reset, keep)  # type: ignore[no-untyped-call]
        return states


class GRU(Cell):
    """A plain unit over each owner's things: [N, dim] -> the state after each [N, hidden]."""

    def forward(self, things: Segments, x: Tensor) -> Tensor:
        return self.states(things, self.input(x)) if things.total else x.new_zeros(0, self.hidden)


class Evolving(nn.Module):
    """The interest evolution layer of DIEN: a unit whose steps attention weighs, of which the final state goes on."""

    def __init__(self, dim: int, hidden: int, *, kind: Evolution = "augru", reset: Reset = "after") -> None:
        super().__init__()
        self.kind, self.cell = kind, Cell(dim, hidden, reset=reset)

    def gates(self, x: Tensor) -> Tensor:
        """x [N, dim] -> [N, 3 H], what of each thing no candidate changes."""
        if self.kind == "aigru":  # the bias is not weighed
            return nn.functional.linear(x, self.cell.input.weight)
        gates: Tensor = self.cell.input(x)
        return gates

    def forward(self, things: Segments, gates: Tensor, say: Tensor) -> Tensor:
        """gates = self.gates(x), say [N, C], how much each thing matters to each candidate -> [R, C, H]."""
        say = say.float()
        if self.kind == "aigru":
            return self.cell.last(things, gates[:, None] * say[..., None] + self.cell.input.bias, None, None)
        if self.kind == "agru":
            return self.cell.last(things, gates, say, torch.zeros_like(say))
        if self.kind == "augru":
            return self.cell.last(things, gates, torch.zeros_like(say), say)
        return self.cell.last(things, gates, say, 1 - say)


class _Recurrence(torch.autograd.Function):
    """All steps of a unit, with the gradient of its weights made in one product at the end and not a step at a time."""

    @staticmethod
    def forward(
        ctx: Any,
        gates: Tensor,
        some: Tensor | None,
        all_of: Tensor | None,
        first: Tensor | None,
        weight: Tensor,
        offset: Tensor | None,
        going: tuple[int, ...],
        reset: Reset,
        keep: bool,
    ) -> Tensor:
        things, columns, hidden = gates.shape[0], gates.shape[1], weight.shape[1]
        if some is not None:
            columns = some.shape[1]
        states = gates.new_empty(things, columns, hidden)
        saved = gates.new_empty(things if keep else going[0], columns, 4, hidden)  # r, u, c, and U_c h + d or r o h
        h = gates.new_zeros(going[0], columns, hidden) if first is None else first
        turned = weight.t()
        at = 0
        for n in going:
            h = h[:n]
            now, part = gates[at : at + n], saved[at : at + n] if keep else saved[:n]
            c, extra = part[:, :, 2], part[:, :, 3]
            if reset == "after":
                product = h.reshape(-1, hidden) @ turned
                product = product.view(n, columns, 3 * hidden)
                two = torch.sigmoid(now[..., : 2 * hidden] + product[..., : 2 * hidden])
                extra.copy_(product[..., 2 * hidden :])
                if offset is not None:
                    extra += offset
                torch.addcmul(now[..., 2 * hidden :].expand_as(c), two[..., :hidden], extra, out=c)
            else:
                product = (h.reshape(-1, hidden) @ turned[:, : 2 * hidden]).view(n, columns, 2 * hidden)
                two = torch.sigmoid(now[..., : 2 * hidden] + product)
                torch.mul(two[..., :hidden], h, out=extra)
                torch.add(now[..., 2 * hidden :], (extra.reshape(-1, hidden) @ turned[:, 2 * hidden :]).view_as(c), out=c)
            c.tanh_()
            if keep:
                part[:, :, :2] = two.view(n, columns, 2, hidden)
            v = two[..., hidden:]
            if all_of is not None and some is not None:
                v = torch.addcmul(some[at : at + n, :, None], all_of[at : at + n, :, None], v)
            h = torch.addcmul(h, v, c - h, out=states[at : at + n])
            at += n
        ctx.save_for_backward(saved if keep else None, states, some, all_of, first, weight)
        ctx.going, ctx.reset, ctx.shared = going, reset, gates.shape[1] == 1 and columns > 1
        ctx.has_offset = offset is not None
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        saved, states, some, all_of, first, weight = ctx.saved_tensors
        going, after = ctx.going, ctx.reset == "after"
        things, columns, hidden = states.shape
        to_gates = states.new_empty(things, columns, 3, hidden)
        to_inner = states.new_empty(things, columns, hidden) if after else to_gates[:, :, 2]  # of what U_c gives
        before = states.new_zeros(things, columns, hidden)  # the state before each step
        weighed = some is not None and all_of is not None
        to_some, to_all = (states.new_empty(things, columns) if weighed else None for _ in range(2))
        back, at = states.new_zeros(0, columns, hidden), things
        if first is not None:
            before[: going[0]] = first
        ends = [0]
        for n in going:
            ends.append(ends[-1] + n)
        for step in range(1, len(going)):
            n = going[step]
            before[ends[step] : ends[step] + n] = states[ends[step - 1] : ends[step - 1] + n]
        for step in reversed(range(len(going))):
            n, at = going[step], ends[step]
            r, u, c, extra = saved[at : at + n].unbind(2)
            h = before[at : at + n]
            d = gradient[at : at + n].clone()
            d[: back.shape[0]] += back
            way = c - h
            v, to_u = u, d * way
            if to_some is not None and to_all is not None:
                share = all_of[at : at + n, :, None]
                v = torch.addcmul(some[at : at + n, :, None], share, u)
                torch.sum(to_u, -1, out=to_some[at : at + n])
                torch.sum(to_u * u, -1, out=to_all[at : at + n])
                to_u = to_u * share
            to_c = d * v
            back = d - to_c
            part = to_gates[at : at + n]
            to_c *= 1 - c * c
            part[:, :, 2] = to_c
            torch.mul(to_u, u - u * u, out=part[:, :, 1])
            if after:
                torch.mul(to_c * extra, r - r * r, out=part[:, :, 0])
                inner = torch.mul(to_c, r, out=to_inner[at : at + n])
                back += (part[:, :, :2].reshape(-1, 2 * hidden) @ weight[: 2 * hidden]).view_as(back)
                back += (inner.reshape(-1, hidden) @ weight[2 * hidden :]).view_as(back)
            else:
                to_reset = (to_c.reshape(-1, hidden) @ weight[2 * hidden :]).view_as(back)
                torch.mul(to_reset * h, r - r * r, out=part[:, :, 0])
                back += to_reset * r
                back += (part[:, :, :2].reshape(-1, 2 * hidden) @ weight[: 2 * hidden]).view_as(back)
        flat, inner = before.view(-1, hidden), to_inner.reshape(-1, hidden)
        read = flat if after else saved[:, :, 3].reshape(-1, hidden)  # h, or r o h
        to_weight = torch.cat([to_gates[:, :, :2].reshape(-1, 2 * hidden).t() @ flat, inner.t() @ read])
        to_x = to_gates.flatten(2)
        if ctx.shared:
            to_x = to_x.sum(1, keepdim=True)
        to_first = None if first is None else torch.cat([back, gradient.new_zeros(first.shape[0] - back.shape[0], columns, hidden)])
        to_offset = inner.sum(0) if ctx.has_offset else None
        return to_x, to_some, to_all, to_first, to_weight, to_offset, None, None, None
