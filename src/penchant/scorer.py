"""A bundle that answers raw requests: scores, lists and reasons.

    Request ─ encode ─ Batch ─ read ─▶ Memory ─ score(candidates) ─▶ Scored

The catalogue is encoded once; a past is read once however many candidates are asked about. Nothing is refused for being
unknown: people, items, values and pasts that the bundle has never seen are scored as such, and the answer says so. Who has done
little is lent what others did, where the bundle lends (penchant.cold), and the answer says so too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from penchant.batch import Batch, Memory
from penchant.bundle import Bundle
from penchant.cold import STEPS, Lent
from penchant.collate import Pasts, Requests, collate
from penchant.encoding import NEVER, Ints, milliseconds, text
from penchant.errors import DataError, nearest
from penchant.nn.model import in_chunks, score_in_chunks
from penchant.request import Event, Request


@dataclass(frozen=True, kw_only=True, eq=False)
class Reason:
    """An event that was looked at and its say on one candidate."""

    item: str
    title: str | None
    time: int  # unix milliseconds; of a lent event a time that it was given
    say: float
    lent: bool = False  # it is not the person's own


@dataclass(frozen=True, kw_only=True, eq=False)
class Scored:
    """What a bundle says of the candidates of one request."""

    item: tuple[str, ...]  # [C]
    title: tuple[str | None, ...]  # [C]
    logit: NDArray[np.float32]  # [C]
    model: str  # name and version
    past: int  # events of the person's own that were looked at: at most as many as the model keeps
    unknown_user: bool
    unknown_items: tuple[str, ...]  # candidates and events not in the catalogue, or whose ids have no row of their own
    unknown_values: tuple[str, ...]  # fields of which a value was absent or never seen: "user.town", "action.rating"; "session", of events
    probability: NDArray[np.float64] | None = None  # [C] of being chosen when shown; None: the bundle is not calibrated
    reasons: tuple[tuple[Reason, ...], ...] = ()  # [C] the events that spoke most for each, when asked for
    lent: str = STEPS[0]  # "own": nothing was lent; else by which step: "similar", "profile", "category" or "popular"
    lent_events: int = 0  # that were looked at beside the person's own

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values."""
        because = self.reasons or ((),) * len(self.item)
        chance = [{}] * len(self.item) if self.probability is None else [{"probability": p} for p in self.probability.tolist()]
        rows = zip(self.item, self.title, self.logit.tolist(), chance, because, strict=True)
        return {
            "model": self.model,
            "items": [{"item": i, "title": t, "logit": s, **p, "because": [asdict(reason) for reason in r]} for i, t, s, p, r in rows],
            "past": self.past,
            "lent": self.lent,
            "lent_events": self.lent_events,
            "unknown_user": self.unknown_user,
            "unknown_items": list(self.unknown_items),
            "unknown_values": list(self.unknown_values),
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class _Asked:
    """One request about some catalogue rows, its past read."""

    request: Request
    past: Sequence[Event]  # the person's own
    looked: Pasts  # with what was lent before them
    lent: Lent
    rows: Ints  # [C]
    batch: Batch
    vectors: torch.Tensor  # [M, D]
    memory: Memory
    unknown: tuple[str, ...]


class Scorer:
    """Answers raw requests with a bundle.

    budget: about how many bytes scoring may take at a time; candidates are cut into chunks to stay within it.
    """

    def __init__(self, bundle: Bundle, *, budget: int = 64 << 20) -> None:
        self.bundle, self.budget = bundle, budget
        self.encoding, self.model = bundle.encoding, bundle.model.eval()
        self._vectors = self._encode(np.arange(self.encoding.catalogue.size))

    @torch.inference_mode()
    def score(
        self, request: Request, items: Sequence[str | int], *, shown: Mapping[str, Sequence[Any]] | None = None, reasons: int = 0
    ) -> Scored:
        """The logit of each of `items` for one request; `reasons` events of the past that spoke most for each.

        shown: facts of showing each item now, by the schema's names: {"position": [0, 1, 2]}; what is left out is unknown.
        """
        asked = self._read(request, self.encoding.catalogue.items.encode(list(items)), shown)
        return self._answer(asked, tuple(text(item) for item in items), self._logits(asked), reasons)

    @torch.inference_mode()
    def recommend(self, request: Request, k: int = 10, *, repeat: bool = False, reasons: int = 0) -> Scored:
        """The k items of the whole catalogue that score highest, best first; of equals the one that stands earlier.

        repeat: whether items of the past may be among them; those that were merely lent may.
        """
        if k < 1:
            raise DataError(f"k is {k}; at least 1 was wanted.")
        if reasons < 0:
            raise DataError(f"reasons is {reasons}; 0 or more was wanted.")
        rows = np.arange(1, self.encoding.catalogue.size)
        if not repeat:
            rows = np.setdiff1d(rows, self.encoding.catalogue.items.encode([event.item for event in request.past]))
        asked = self._read(request, rows)
        logit = self._logits(asked)
        best = np.argsort(-logit, kind="stable")[:k]
        names = tuple(name or "" for name in self.encoding.catalogue.items.decode(rows[best]))
        kept = replace(asked, rows=rows[best], batch=asked.batch.candidates(torch.from_numpy(best)[None].to(self.model.device)))
        return self._answer(kept, names, logit[best], reasons)

    @torch.inference_mode()
    def add_items(self, items: Sequence[Mapping[str, Any]]) -> None:
        """From now on knows these items too: {"id": ..., "title": ..., and the schema's fields}. They live on their attributes."""
        old = self.encoding.catalogue.size
        self.encoding = self.encoding.with_items(items)
        self.model.item.extend(self.encoding.catalogue)
        self._vectors = torch.cat([self._vectors, self._encode(np.arange(old, self.encoding.catalogue.size))])

    @torch.inference_mode()
    def update_items(self, items: Sequence[Mapping[str, Any]]) -> None:
        """From now on knows other attributes of these items of the catalogue: {"id": ..., "price": 5}; what is not given stays.

        Raises DataError for an item that the catalogue does not have.
        """
        self.encoding = self.encoding.with_changes(items)
        self.model.item.extend(self.encoding.catalogue)
        rows = self.encoding.catalogue.items.encode([item["id"] for item in items])
        self._vectors = self._vectors.index_copy(0, torch.from_numpy(rows).to(self.model.device), self._encode(rows))

    @torch.inference_mode()
    def _encode(self, rows: Ints) -> torch.Tensor:
        known = torch.from_numpy(self.encoding.catalogue.known[rows])
        return self.model.item(torch.from_numpy(rows).to(self.model.device), known.to(self.model.device))

    def _read(self, request: Request, rows: Ints, shown: Mapping[str, Sequence[Any]] | None = None) -> _Asked:
        past = self._past(request)
        requests, looked, lent, unknown = self._encoded(request, past, rows, shown or {})
        batch = collate(self.encoding, requests, looked).to(self.model.device)
        vectors = self._vectors.index_select(0, batch.row)
        memory = self.model.read(vectors, batch.user, batch.history)
        return _Asked(
            request=request, past=past, looked=looked, lent=lent, rows=rows, batch=batch, vectors=vectors, memory=memory, unknown=unknown
        )

    def _logits(self, asked: _Asked) -> NDArray[np.float32]:
        logit = score_in_chunks(self.model, asked.vectors, asked.memory, asked.batch, budget=self.budget)[0]
        return logit.float().cpu().numpy()

    def _attention(self, asked: _Asked) -> NDArray[np.float32] | None:
        """[E, C], or None where the model has no say of events."""
        parts = in_chunks(self.model, asked.memory, asked.batch, self.budget)
        found = [self.model.score(asked.vectors, asked.memory, part, explain=True).attention for part in parts]
        say = [part for part in found if part is not None]
        return torch.cat(say, 1).cpu().numpy() if say else None

    def _answer(self, asked: _Asked, names: tuple[str, ...], logit: NDArray[np.float32], reasons: int) -> Scored:
        say = self._attention(asked) if reasons else None
        known, title = self.encoding.catalogue.own, self.encoding.catalogue.title
        seen = [*zip(names, asked.rows, strict=True), *zip((text(e.item) for e in asked.past), self._rows(asked.past), strict=True)]
        user = asked.request.user
        return Scored(
            item=names,
            title=tuple(title[row] for row in asked.rows),
            logit=logit,
            model=self.bundle.label,
            past=len(asked.past),
            unknown_user=user is None or not self.encoding.users.encode([user])[0],
            unknown_items=tuple(dict.fromkeys(name for name, row in seen if not known[row])),
            unknown_values=asked.unknown,
            probability=self._probability(logit),
            reasons=() if say is None else tuple(self._reasons(asked, column, reasons) for column in say.T),
            lent=asked.lent.names[0],
            lent_events=len(asked.lent.row),
        )

    def _probability(self, logit: NDArray[np.float32]) -> NDArray[np.float64] | None:
        """[C], None where the bundle is not calibrated."""
        calibration = self.bundle.calibration
        return None if calibration is None else calibration.probability(logit.astype(np.float64)).astype(np.float64)

    def _past(self, request: Request) -> list[Event]:
        """The events that the model looks at, oldest first."""
        now = milliseconds(request.time)
        events = sorted(request.past, key=lambda event: milliseconds(event.time))
        if events and milliseconds(events[-1].time) > now:
            raise DataError(
                f"an event at {milliseconds(events[-1].time)} lies after the request's own time {now}; a past holds what came before."
            )
        if self.bundle.tie == "strict":
            events = [event for event in events if milliseconds(event.time) < now]
        return events[max(len(events) - self.bundle.past, 0) :]

    def _rows(self, past: Sequence[Event]) -> Ints:
        return self.encoding.catalogue.items.encode([event.item for event in past])

    def _encoded(
        self, request: Request, past: Sequence[Event], rows: Ints, shown: Mapping[str, Sequence[Any]]
    ) -> tuple[Requests, Pasts, Lent, tuple[str, ...]]:
        """The request, its past with what is lent, what that is, and the names of fields with unknown values."""
        encoding, time = self.encoding, np.array([milliseconds(request.time)])
        profile, context = {k: [v] for k, v in request.profile.items()}, {k: [v] for k, v in request.context.items()}
        action = {name: [event.action.get(name) for event in past] for name in {key for event in past for key in event.action}}
        for group, given in (("user", profile), ("context", context), ("action", action), ("shown", shown)):
            self._refuse_unknown_fields(group, given)
        for name, values in shown.items():
            if len(values) != len(rows):
                raise DataError(f"shown field {name!r} has {len(values)} values; one for each of the {len(rows)} items was wanted.")
        raws: dict[str, tuple[Mapping[str, Sequence[Any]], int]] = {
            "user": (profile, 1),
            "context": (context, 1),
            "action": (action, len(past)),
            "shown": (shown, len(rows)),
        }
        codes = {group: encoding.codes(group, *raw) for group, raw in raws.items()}
        numbers = {group: encoding.scaled(group, *raw) for group, raw in raws.items()}
        requests = Requests(
            user=np.concatenate([encoding.users.encode([request.user])[:, None], codes["user"]], axis=1),
            user_number=numbers["user"],
            number=numbers["context"],
            context=np.concatenate([encoding.moment(time, np.array([_first_seen(request)])), codes["context"]], axis=1),
            time=time,
            item=rows[None],
            shown=codes["shown"][None],
            shown_number=numbers["shown"][None],
        )
        pasts = Pasts(
            item=self._rows(past),
            time=np.array([milliseconds(event.time) for event in past], dtype=np.int64),
            action=codes["action"],
            number=numbers["action"],
            length=np.array([len(past)]),
            session=encoding.sessions([event.session for event in past]),
        )
        unknown: list[str] = []
        for group in raws:
            named = [*encoding.schema.named(group, "category"), *encoding.schema.named(group, "number")]
            absent = np.concatenate([(codes[group] == 0).any(0), (numbers[group][:, 1::2] > 0).any(0)])
            unknown += [f"{group}.{name}" for name, one in zip(named, absent.tolist(), strict=True) if one]
        if encoding.schema.events.session.column is not None and any(event.session is None for event in past):
            unknown.append("session")
        if self.bundle.lender is None or not request.lend:
            none = np.zeros(1, dtype=np.int64)
            return requests, pasts, Lent(step=none, length=none, row=none[:0]), tuple(unknown)
        return requests, *self.bundle.lender.lend(encoding, requests, pasts, self.bundle.past), tuple(unknown)

    def _refuse_unknown_fields(self, group: str, given: Mapping[str, Any]) -> None:
        declared = self.encoding.schema.named(group, "category", "number")
        for name in given:
            if name not in declared:
                raise DataError(
                    f"{group} field {name!r} is not in the schema; it has {', '.join(declared) or 'none'}.{nearest(name, declared)}"
                )

    def _reasons(self, asked: _Asked, say: NDArray[np.float32], most: int) -> tuple[Reason, ...]:
        order = [int(at) for at in np.argsort(-say, kind="stable")[:most] if say[at] > 0]
        lent, rows, times = len(asked.lent.row), asked.looked.item, asked.looked.time
        ids = self.encoding.catalogue.items.decode(rows[:lent]) + [text(event.item) for event in asked.past]
        titles = self.encoding.catalogue.title
        return tuple(
            Reason(item=ids[at] or "", title=titles[rows[at]], time=int(times[at]), say=float(say[at]), lent=at < lent) for at in order
        )


def _first_seen(request: Request) -> int:
    """Unix milliseconds, or NEVER: of somebody without a past nothing is known."""
    if request.first_seen is not None:
        return milliseconds(request.first_seen)
    return min((milliseconds(event.time) for event in request.past), default=int(NEVER))
