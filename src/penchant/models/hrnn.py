"""Hierarchical recurrent summary of a person's sessions (Quadrana et al., RecSys 2017, "Personalizing session-based recommendations
with hierarchical recurrent neural networks").

    c_1 ──────────── person ──▶ c_2 ─────────── person ──▶ ...
     ▲       W c + b ──┐ ▲      W c + b ──┐ ▲                       profile, moment ─┐
     │            tanh ▼ │           tanh ▼ │                                        ├─ concat ─ head ─ logit
    session 1 ─▶ s_1  session 2 ─▶ s_2   session 3 ─▶ s_3 ───────────────────────────┤
                                                                    item ────────────┘

A unit reads the events of a session, another one the sessions' last states, c_m = GRU(s_m, c_{m-1}); the next session is not begun
from nothing but from tanh(W c_m + b), so that who a person is is known before the session says what they want now.

                    paper                             authors' code (2017)       here
    session 1       c_0 = 0                           begins from 0              begins from 0
    session m + 1   HRNN Init: tanh(W c_m + b)        the same, or ReLU          `start`: person; none: each begins from 0
                    HRNN All: and c_m at each event   both                       Init
    what is scored  s, times the items                `user_to_output`: c too    `output`: session; both: and c, the last session in it
    learned from    each event of each session        the same                   requests with their candidates, as all models here
    the score       a product with each item          the same                   the head's, which reads profile and moment too
    reset gate      before the product                the same                   `reset`: before, after
    sessions        gaps of 30 minutes, of 5 events   -                          the schema's, also of one event
                    and more

With `start` person a session waits for the one before it: the first sessions of all pasts are read at once, then the second ones, and
so on. With none all sessions are read at once; then only c carries what is older than the last session, so `output` has to be both.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field as Limits
from torch import Tensor, nn

from penchant.batch import Batch, History, Memory, Output, Segments, Sessions, User
from penchant.config import Config
from penchant.encoding import Encoding
from penchant.errors import ConfigError
from penchant.nn.item import ItemEncoder
from penchant.nn.mlp import Activation, Head
from penchant.nn.model import Model
from penchant.nn.person import Past, Person
from penchant.nn.recurrent import Cell, Reset


class HRNNConfig(Config):
    """Widths and variants."""

    hidden: int | None = Limits(None, ge=1)  # of both units; None: the width of an item's vector
    start: Literal["person", "none"] = "person"  # what a session begins from
    output: Literal["session", "both"] = "session"  # what goes on to the head
    reset: Reset = "before"  # of both units
    head: tuple[int, ...] = Limits((200, 80), min_length=1)
    activation: Activation = "dice"
    profile: int = Limits(8, ge=1)  # width of each field of profile and moment
    dropout: float = Limits(0.0, ge=0, lt=1)


class HRNN(Model):
    """The state after a person's last session, 0 of an empty past. A state does not say which events made it, so it explains nothing.

    Raises ConfigError where nothing would read the person's state.
    """

    Config = HRNNConfig
    by_session = True

    def __init__(self, encoding: Encoding, item: ItemEncoder, config: HRNNConfig = HRNNConfig()) -> None:
        super().__init__(encoding, item, config)
        self.config = config
        hidden, self.both = config.hidden or item.dim, config.output == "both"
        if config.start == "none" and not self.both:
            raise ConfigError("hrnn: with start 'none' and output 'session' nothing reads a person's state. Set output to 'both'.")
        self.item, self.hidden = item, hidden
        self.past, self.person = Past(encoding, item.dim), Person(encoding, config.profile)
        self.session, self.sessions = (Cell(dim, hidden, reset=config.reset) for dim in (item.dim, hidden))
        self.start = nn.Linear(hidden, hidden) if config.start == "person" else None
        self.head = Head(self.person.dim + hidden * (1 + self.both), item.dim, config.head, config.activation, config.dropout)

    def read(self, items: Tensor, user: User, history: History) -> Memory:
        requests, gates = history.sessions.requests, self.session.input(self.past(items, history))  # [E, 3 H]
        if not requests.total:
            state = gates.new_zeros(requests.owners, self.hidden * (1 + self.both))
        else:
            states = self.at_once(gates, history.sessions) if self.start is None else self.in_turn(gates, history.sessions, self.start)
            state = requests.last(states.index_select(0, requests.ends))
        return Memory(segments=history.events, whole={"state": state})

    def at_once(self, gates: Tensor, sessions: Sessions) -> Tensor:
        """gates [E, 3 H] -> s and c after each session, in the order of steps, [S, 2 H]."""
        order, going = sessions.requests.steps
        s = self.session.last(sessions.events, gates, None, None).index_select(0, order)  # [S, 1, H]
        c = self.sessions.run(self.sessions.input(s), None, None, going)
        return torch.cat([s, c], -1).squeeze(1)

    def in_turn(self, gates: Tensor, sessions: Sessions, start: nn.Linear) -> Tensor:
        """The same where a session begins from tanh(W c + b): [S, H], or [S, 2 H] with c: all first sessions, all second ones, ..."""
        device = gates.device
        order, going = Segments.of(sessions.requests.sizes).steps  # in host memory
        begins = torch.split(sessions.events.start.index_select(0, order.to(device, non_blocking=True)), list(going))
        first = c = gates.new_zeros(going[0], self.hidden, dtype=torch.float32)
        states = []
        for n, length, begin in zip(going, torch.split(sessions.events.sizes[order], list(going)), begins, strict=True):
            length, turn = length.sort(descending=True, stable=True)  # longest first, as a unit takes them
            events, place = Segments.of(length, device), turn.to(device, non_blocking=True)
            steps, taking = events.steps
            mine = (events.spread(begin.index_select(0, place)) + events.position).index_select(0, steps)
            s = self.session.run(gates.index_select(0, mine)[:, None], None, None, taking, first.index_select(0, place)[:, None])
            s = s.new_empty(n, self.hidden).index_copy(0, place, s.index_select(0, events.ends).squeeze(1))
            c = self.sessions.run(self.sessions.input(s)[:, None], None, None, (n,), c[:n, None]).squeeze(1)
            first = torch.tanh(start(c))
            states.append(torch.cat([s, c], -1) if self.both else s)
        return torch.cat(states)

    def score(self, items: Tensor, memory: Memory, batch: Batch, *, explain: bool = False) -> Output:
        request = torch.cat([self.person(batch), memory.whole["state"]], -1)
        return Output(logit=self.head(request, items[batch.item]))

    @property
    def candidate_bytes(self) -> int:
        return 4 * (2 * self.item.dim + 4 * sum(self.config.head))
