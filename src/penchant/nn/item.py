"""The item encoder: all that is known of an item, as one vector.

    id ──────────── table ─────────────┐
    category ────── table ─────────────┤
    genres ──────── table ── mean ─────┼─ concat ─ [M, D]
    price, year ─── linear ────────────┤
    text ────────── linear ────────────┘

Every part is `dim` wide, so that models of pairs of fields can take the vector apart again.

One encoder reads the candidate and the past. Models are given it, so that a wrapper can give them a wider one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, cast

import torch
from pydantic import Field as Limits
from torch import Tensor, nn

from penchant.config import Config
from penchant.encoding import Catalogue, Encoding
from penchant.nn.embedding import Fields, Table


class ItemConfig(Config):
    """Widths of an item's vector."""

    dim: int = Limits(32, ge=1)  # of the id, and of each categorical attribute
    attributes: bool = True  # False: the id alone
    std: float = Limits(0.05, gt=0)  # of the normal distribution that tables start from


class ItemEncoder(Protocol):
    """What models are given: catalogue rows int64 [M], whether their ids are known bool [M] -> [M, dim]."""

    dim: int
    parts: tuple[int, ...]  # the widths that it is made of, the id's first; their sum is `dim`
    attributes: bool  # whether it reads more than ids

    def __call__(self, row: Tensor, known: Tensor) -> Tensor: ...

    def extend(self, catalogue: Catalogue) -> None:
        """From now on speak of this catalogue, which has the old one's rows and further ones after them."""


def id_of(row: Tensor, known: Tensor, slot: Tensor | None) -> Tensor:
    """int64 [M], the row of a table of ids that each catalogue row looks up (`Catalogue.slot`); UNKNOWN's, 0, where it is not known."""
    return torch.where(known, row, 0) if slot is None else slot[row, known.long()]


class CatalogueEncoder(nn.Module):
    """An item encoder over a catalogue's ids and attributes."""

    category: Tensor
    length: Tensor
    number: Tensor
    slot: Tensor | None

    def __init__(self, encoding: Encoding, config: ItemConfig = ItemConfig()) -> None:
        super().__init__()
        self.attributes, dim, catalogue = config.attributes, config.dim, encoding.catalogue
        of, sizes = (encoding.named("item"), encoding.sizes("item")) if config.attributes else ((), ())
        several = [f"item.{name}" for name in encoding.schema.named("item", "categories") if config.attributes]
        self.id = Table(catalogue.ids, dim, std=config.std, of="items")
        self.fields = Fields(sizes, dim, std=config.std, of=of)
        self.many = nn.ModuleList(Table(encoding.vocabularies[name].size, dim, std=config.std, of=name) for name in several)
        numbers = catalogue.number.shape[1] if config.attributes else 0
        self.numbers = nn.Linear(numbers, dim, bias=False) if numbers else None  # (value, missing): what is missing is learned
        self.vectors = nn.ModuleList(Projection(v.shape[1], dim) for v in catalogue.vector if config.attributes)
        count = 1 + len(self.fields.tables) + len(self.many) + bool(numbers) + len(self.vectors)
        self.dim = dim * count
        self.parts: tuple[int, ...] = (dim,) * count
        self.extend(catalogue)

    def extend(self, catalogue: Catalogue) -> None:
        device = self.id.weight.device
        self.register_buffer("slot", None if catalogue.slot is None else torch.from_numpy(catalogue.slot).to(device), persistent=False)
        for name, value in {"category": catalogue.code, "length": catalogue.length, "number": catalogue.number}.items():
            self.register_buffer(name, torch.from_numpy(value).to(device), persistent=False)
        for place, values in enumerate(catalogue.many):
            self.register_buffer(f"many_{place}", torch.from_numpy(values).to(device), persistent=False)
        for place, vectors in enumerate(catalogue.vector):
            self.register_buffer(f"vector_{place}", torch.from_numpy(vectors).to(device), persistent=False)

    def forward(self, row: Tensor, known: Tensor) -> Tensor:
        parts = [self.id(id_of(row, known, self.slot))]
        if self.attributes:
            parts.append(self.fields(self.category.index_select(0, row)))
            parts += [self._mean(place, table, row) for place, table in enumerate(self.many)]
            parts += [] if self.numbers is None else [self.numbers(self.number.index_select(0, row))]
            parts += [projection(self.get_buffer(f"vector_{place}").index_select(0, row)) for place, projection in enumerate(self.vectors)]
        return torch.cat(parts, -1)

    def looked_up(self, row: Tensor, known: Tensor) -> Iterator[tuple[Table, Tensor, Tensor]]:
        """Of each table, which of its ids which of these catalogue rows look up: (table, places in `row`, ids), pairs side by side."""
        place = torch.arange(len(row), device=row.device)
        yield self.id, place, id_of(row, known, self.slot)
        if not self.attributes:
            return
        for column, table in enumerate(self.fields.tables):
            yield cast(Table, table), place, self.category.index_select(0, row)[:, column]
        for column, table in enumerate(self.many):
            values = self.get_buffer(f"many_{column}").index_select(0, row)  # [M, W]
            there = torch.arange(values.shape[1], device=row.device) < self.length.index_select(0, row)[:, column, None]
            yield cast(Table, table), place[:, None].expand_as(values)[there], values[there]

    def _mean(self, place: int, table: nn.Module, row: Tensor) -> Tensor:
        """The mean over an item's values of one several-valued attribute: [M, dim]."""
        values = self.get_buffer(f"many_{place}").index_select(0, row)  # [M, W]
        length = self.length.index_select(0, row)[:, place, None]
        there = torch.arange(values.shape[1], device=row.device) < length
        vectors: Tensor = table(values)  # [M, W, dim]
        return (vectors * there[..., None]).sum(1) / length


def item_encoder(encoding: Encoding, config: ItemConfig) -> CatalogueEncoder:
    """The item encoder of a catalogue."""
    return CatalogueEncoder(encoding, config)


def item_weights(encoding: Encoding, like: ItemEncoder) -> CatalogueEncoder:
    """A number for the id, and for each attribute where `like` reads them, in place of vectors: [M, F], an item's first-order terms."""
    return item_encoder(encoding, ItemConfig(dim=1, attributes=like.attributes, std=1e-4))


class Projection(nn.Module):
    """A vector attribute as `dim` numbers: [M, width] -> [M, dim]. What takes the place of one that is missing (NaN) is learned.

    It starts as the projection of the mean, so that it means something even where no item of the training lacks the vector.
    """

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, dim)
        self.missing = nn.Parameter(torch.zeros(dim))

    def forward(self, vector: Tensor) -> Tensor:
        absent = vector[:, :1].isnan().to(self.missing.dtype)
        projected: Tensor = self.linear(vector.nan_to_num(0.0)) + absent * self.missing
        return projected


class Ids(nn.Module):
    """An item encoder of ids alone: [M, dim]. An id that it does not know is UNKNOWN, or of the catalogue's tail."""

    slot: Tensor | None

    def __init__(self, catalogue: Catalogue, dim: int, *, std: float = 0.05) -> None:
        super().__init__()
        self.table = Table(catalogue.ids, dim, std=std, of="items")
        self.attributes = False
        self.dim = dim
        self.parts: tuple[int, ...] = (dim,)
        self.extend(catalogue)

    def extend(self, catalogue: Catalogue) -> None:
        """New items have no rows of their own in the table: they are not known."""
        slot = None if catalogue.slot is None else torch.from_numpy(catalogue.slot).to(self.table.weight.device)
        self.register_buffer("slot", slot, persistent=False)

    def looked_up(self, row: Tensor, known: Tensor) -> Iterator[tuple[Table, Tensor, Tensor]]:
        """As that of a catalogue's encoder."""
        yield self.table, torch.arange(len(row), device=row.device), id_of(row, known, self.slot)

    def forward(self, row: Tensor, known: Tensor) -> Tensor:
        found: Tensor = self.table(id_of(row, known, self.slot))
        return found


class Widened(nn.Module):
    """An item encoder with a further one beside it: [M, item.dim + extra.dim], the further one's columns last."""

    def __init__(self, item: ItemEncoder, extra: ItemEncoder) -> None:
        super().__init__()
        self.item, self.extra = item, extra
        self.dim, self.attributes = item.dim + extra.dim, item.attributes or extra.attributes
        self.parts: tuple[int, ...] = (*item.parts, *extra.parts)

    def extend(self, catalogue: Catalogue) -> None:
        self.item.extend(catalogue)
        self.extra.extend(catalogue)

    def forward(self, row: Tensor, known: Tensor) -> Tensor:
        return torch.cat([self.item(row, known), self.extra(row, known)], -1)


class Coded(nn.Module):
    """An item encoder that tells ids as well: `codes` are an item's own id and its single-valued categories, int64 [M, 1 + F].

    `read` sees the items' vectors alone. A model that needs ids there names their columns as `told`: their binary digits
    stand behind the vector, each 0 or 1, which any float holds exactly, and `ids` makes integers of them again.
    """

    code: Tensor
    own: Tensor | None  # bool [V], which catalogue rows have an id of their own; None: those that are known
    column: Tensor  # of `codes`, of each digit
    place: Tensor  # of `told`, of each digit
    shift: Tensor

    def __init__(self, item: ItemEncoder, catalogue: Catalogue, sizes: tuple[int, ...], told: tuple[int, ...] = ()) -> None:
        """sizes: how many ids each category has; told: columns of `codes`, 0 being the id."""
        super().__init__()
        self.item, self.told = item, told
        width = [((catalogue.size, *sizes)[column] - 1).bit_length() for column in told]
        digits = [(column, place, at) for place, column in enumerate(told) for at in range(width[place])]
        for number, name in enumerate(("column", "place", "shift")):
            self.register_buffer(name, torch.tensor([digit[number] for digit in digits], dtype=torch.int64), persistent=False)
        self.digits = len(digits)
        self.dim, self.attributes = item.dim + self.digits, item.attributes
        self.parts: tuple[int, ...] = (*item.parts, self.digits) if self.digits else item.parts
        self._hold(catalogue)

    def extend(self, catalogue: Catalogue) -> None:
        self.item.extend(catalogue)
        self._hold(catalogue)

    def _hold(self, catalogue: Catalogue) -> None:
        device, own = self.place.device, None if catalogue.slot is None else torch.from_numpy(catalogue.own)
        self.register_buffer("code", torch.from_numpy(catalogue.code).to(device), persistent=False)
        self.register_buffer("own", None if own is None else own.to(device), persistent=False)

    def codes(self, row: Tensor, known: Tensor) -> Tensor:
        """int64 [M, 1 + F]; the id is the catalogue row, 0 where it is not known or shares a row of the tables of ids."""
        known = known if self.own is None else known & self.own.index_select(0, row)
        return torch.cat([torch.where(known, row, 0)[:, None], self.code.index_select(0, row)], 1)

    def ids(self, digits: Tensor) -> Tensor:
        """The columns behind the vector [*, digits] -> int64 [*, told]."""
        value = (digits > 0.5).long() << self.shift
        return value.new_zeros(*value.shape[:-1], len(self.told)).index_add(-1, self.place, value)

    def forward(self, row: Tensor, known: Tensor) -> Tensor:
        vector = self.item(row, known)
        if not self.digits:
            return vector
        code = self.codes(row, known).index_select(1, self.column)
        return torch.cat([vector, (code >> self.shift & 1).to(vector.dtype)], -1)


class Labelled(nn.Module):
    """An item encoder with one of an item's single-valued categories behind its vector, as a number: [M, item.dim + 1].

    The encoder is somebody else's part, and no part of this one.
    """

    label: Tensor

    def __init__(self, item: ItemEncoder, catalogue: Catalogue, column: int) -> None:
        super().__init__()
        self._item, self.column = (item,), column
        self.dim, self.attributes = item.dim + 1, item.attributes
        self.parts: tuple[int, ...] = (*item.parts, 1)
        self._hold(catalogue, "cpu")

    @property
    def item(self) -> ItemEncoder:
        return self._item[0]

    def extend(self, catalogue: Catalogue) -> None:
        self.item.extend(catalogue)
        self._hold(catalogue, self.label.device)

    def _hold(self, catalogue: Catalogue, device: torch.device | str) -> None:
        code = torch.from_numpy(catalogue.code[:, self.column].copy())
        self.register_buffer("label", code.to(device, torch.float32), persistent=False)  # exact up to 2 ** 24

    def forward(self, row: Tensor, known: Tensor) -> Tensor:
        vector = self.item(row, known)
        return torch.cat([vector, self.label.index_select(0, row)[:, None].to(vector.dtype)], -1)
