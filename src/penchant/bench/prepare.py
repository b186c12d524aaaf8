"""How long preparing a log takes, and how much memory: a made log of CSV with string ids, in no order, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv as pc

from penchant.bench.train import at_least_one, machine
from penchant.config import read
from penchant.data.prepare import prepare
from penchant.schema import Schema
from penchant.train.estimate import most_held

STEP = 1_000_000  # rows that are made at a time
LOOK = 0.02  # seconds between looks at the memory
NOW = 1_500_000_000  # seconds
SCHEMA = {"name": "many", "events": {"file": "raw", "action": {"kind": {}}, "context": {"device": {}}}}


@dataclass(frozen=True, kw_only=True)
class PrepareBench:
    """What was measured."""

    seconds: float
    events_a_second: float
    peak_bytes: int  # the most anonymous memory of the process, the interpreter and its libraries included; of mapped files nothing
    before_bytes: int  # of that before it began
    raw_bytes: int
    log_bytes: int
    facts: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def bench_prepare(
    *, events: int = 1_000_000, people: int = 200_000, items: int = 50_000, memory: str = "1GB", folder: Path | None = None
) -> PrepareBench:
    """Prepares so many events. folder: where the files are made, which are gone afterwards. Raises ConfigError for sizes below 1."""
    at_least_one("bench prepare", {"events": events, "people": people, "items": items})
    with TemporaryDirectory(dir=None if folder is None else folder.absolute()) as place:
        raw, log = Path(place) / "raw", Path(place) / "log"
        raw.mkdir()
        write(raw, events, people, items)
        done = subprocess.run(
            [sys.executable, "-m", "penchant.bench.prepare", place, memory], stdout=subprocess.PIPE, text=True, check=True
        )
        told = json.loads(done.stdout)
        sizes = {name: sum(path.stat().st_size for path in of.iterdir()) for name, of in (("raw_bytes", raw), ("log_bytes", log))}
    facts = machine() | {"events": events, "people": people, "items": items, "memory": memory}
    return PrepareBench(**told, **sizes, events_a_second=events / told["seconds"], facts=facts)


def write(folder: Path, events: int, people: int, items: int) -> None:
    """Two CSV files of half the rows each; who clicks and what is clicked on is long-tailed."""
    random = np.random.default_rng(0)
    kinds, devices = pa.array(["view", "cart", "buy"]), pa.array(["phone", "desk", "tablet", "tv"])
    for half, rows in enumerate((events // 2, events - events // 2)):
        with pa.OSFile(str(folder / f"part{half}.csv"), "wb") as sink:
            sink.write(b"user,item,time,kind,device\n")
            for begin in range(0, rows, STEP):
                count = min(STEP, rows - begin)
                table = pa.table(
                    {
                        "user": _ids("u", people, random, count),
                        "item": _ids("item-", items, random, count),
                        "time": NOW + random.integers(10**8, size=count),
                        "kind": kinds.take(pa.array(random.integers(3, size=count))),
                        "device": devices.take(pa.array(random.integers(4, size=count))),
                    }
                )
                pc.write_csv(table, sink, pc.WriteOptions(include_header=False, quoting_style="none"))


def _ids(prefix: str, many: int, random: np.random.Generator, count: int) -> pa.Array:
    number = pa.array((many * random.random(count) ** 2).astype(np.int64) + 10**9)
    return pa.compute.binary_join_element_wise(prefix, number.cast(pa.string()), "")


def measure(folder: Path, memory: str) -> dict[str, float]:
    """Prepares the log in `folder`, in this process."""
    before = anonymous()
    with looked_at() as held:
        begun = time.perf_counter()
        prepare(folder, folder / "log", read(Schema, SCHEMA), memory=memory)
        seconds = time.perf_counter() - begun
    return {"seconds": seconds, "peak_bytes": max(held), "before_bytes": before}


@contextmanager
def looked_at() -> Iterator[list[int]]:
    """The anonymous memory of this process, looked at while the block runs."""
    held, ended = [anonymous()], threading.Event()

    def look() -> None:
        while not ended.wait(LOOK):
            held.append(anonymous())

    looker = threading.Thread(target=look, daemon=True)
    looker.start()
    try:
        yield held
    finally:
        ended.set()
        looker.join()
        held.append(anonymous())


def anonymous() -> int:
    """Bytes of this process that no file stands behind; where the system does not tell, the most that it has held of all kinds."""
    known = Path("/proc/self/status")
    if known.exists():
        found = [line for line in known.read_text(encoding="utf-8").splitlines() if line.startswith("RssAnon:")]
        if found:
            return int(found[0].split()[1]) * 1024
    return most_held()


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(Path(sys.argv[1]), sys.argv[2])))
