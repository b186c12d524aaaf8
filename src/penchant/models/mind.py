"""Multi-Interest Network with Dynamic routing (Li et al., CIKM 2019, arXiv 1904.08030).

    past ── routing ── capsules 1 .. K ─┐
    profile ────────────────────────────┴─ layers ── interests 1 .. K ─┬─ label-aware attention ── sampled softmax
    item ──────────────────────────────────────────────────────────────┴─ max ── logit

A person is several vectors. Events that go together are routed to one capsule, so that a minor taste keeps a vector of its own, and a
candidate is scored by the vector that is nearest to it. Lists come from K searches among the items' vectors.

                      paper                          ComiRec's code of it (2020)      here
    first logits      drawn, sigma 1; kept or not    drawn anew at each pass, at      drawn once with the model, by place in the past;
                      is not said                    inference too                    `first`: or by what the event is
    interests         max(1, min(K, log2 n))         K                                `adaptive`
    gradient          not said                       of the last round alone          `through`: all, by which interests follow
                                                                                      tastes (docs/results.md); last, which is quicker
    layers            ReLU, beside the profile       one, ReLU, no profile            `hidden`, then one of the items' width; `rectify`
    label-aware       softmax of pow(s, p); p to     the nearest                      `read_out`: max; softmax of p s; pow, as printed
    attention         infinity is best
    loss              sampled softmax                10 a batch, log-uniform, no      n drawn a request by the run's sampler, each for
                                                     regard to what was chosen        1 / (n q) items; of what one never chose
    its sign          sum of log P, to be minimised  minus                            minus
    serving           the greatest of K products     the same                         the same
    item's vector     mean of id, brand, category    id                               `Item`: the id; attributes widen it
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field as Limits
from torch import Tensor
from torch.nn import functional as F

from penchant.batch import Batch, History, Memory, Output, User
from penchant.encoding import Encoding
from penchant.nn.capsule import CapsuleConfig, Capsules, sampled_softmax
from penchant.nn.item import ItemConfig, ItemEncoder
from penchant.nn.model import Model, Wants


class MINDConfig(CapsuleConfig):
    """Capsules, and what they learn against."""

    negatives: int = Limits(32, ge=1)  # items drawn a request, of the sampled softmax


class MIND(Model):
    """Multi-interest network; `explain` gives each interest's weight for each candidate, and which interest each event belongs to.

    An event's say on a candidate is its share of the interests that stand for it: of one alone, where the nearest counts.
    A logit is the greatest product of an interest with the item, so it orders items and is not the odds of anything.
    """

    Config = MINDConfig
    Item = ItemConfig(attributes=False, dim=64)
    Loss: ClassVar[Mapping[str, Any]] = {"name": "none"}  # its own takes the place of one of the candidates alone

    def __init__(self, encoding: Encoding, item: ItemEncoder, config: MINDConfig = MINDConfig()) -> None:
        super().__init__(encoding, item, config)
        self.config, self.item = config, item
        self.capsules = Capsules(encoding, item.dim, config)

    @property
    def wants(self) -> Wants:
        return Wants(further=self.config.negatives)

    def read(self, items: Tensor, user: User, history: History) -> Memory:
        interest, there, member = self.capsules(items, user, history)
        return Memory(segments=history.events, each={"member": member}, whole={"interest": interest, "there": there})

    def interests(self, memory: Memory) -> Tensor:
        """[R, K, D]; where a person has fewer than K, the first stands in for the others."""
        return memory.whole["interest"]

    def targets(self, items: Tensor) -> Tensor:
        """[M, D]."""
        return items

    def score(self, items: Tensor, memory: Memory, batch: Batch, *, explain: bool = False) -> Output:
        interest, there, item = memory.whole["interest"], memory.whole["there"], items[batch.item]  # [R, K, D], [R, K], [R, C, D]
        score = (item @ interest.transpose(1, 2)).float()  # [R, C, K]
        logit, losses = score.amax(-1), {}
        if self.training:
            vector = self.capsules.weights(score, there) @ interest  # [R, C, D]
            drawn = items.new_zeros(0) if batch.negative is None else F.embedding(batch.negative, items)
            losses = {"interest": sampled_softmax(vector, item, drawn, batch)}
        if not explain:
            return Output(logit=logit, losses=losses)
        member, weight = memory.each["member"], self.capsules.weights(score, there)
        say = memory.segments.dot(member, weight).float()  # [E, C]
        return Output(logit=logit, attention=say, interest=weight, member=member, losses=losses)

    @property
    def candidate_bytes(self) -> int:
        return 4 * (self.item.dim + 2 * self.config.interests)
