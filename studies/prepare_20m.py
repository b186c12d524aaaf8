"""How long `prepare` takes for a log of many events, and how much memory: one JSON line.

    python studies/prepare_20m.py [--rows 20000000] [--memory 1GB] [--form parquet] [--folder PLACE]

The log is made first, in a process of its own: two files, 200 thousand people, 50 thousand items, one action and one
context of few values, the times in no order. The peak is that of the process that prepares, its mapped files included.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from penchant.config import read
from penchant.data.prepare import prepare
from penchant.schema import Schema

STEP = 1_000_000  # rows that are made at a time
NOW = 1_500_000_000


def write(folder: Path, rows: int, form: str) -> None:
    """Two files of half the rows each."""
    random = np.random.default_rng(0)
    kinds, devices = pa.array(["view", "cart", "buy"]), pa.array(["phone", "desk", "tablet", "tv"])
    for half in range(2):
        writer: pq.ParquetWriter | pc.CSVWriter | None = None
        path = folder / (f"part{half}.parquet" if form == "parquet" else f"part{half}.csv.gz")
        with pa.CompressedOutputStream(str(path), "gzip") if form == "csv" else pa.OSFile(str(path), "wb") as sink:
            for begin in range(0, rows // 2, STEP):
                count = min(STEP, rows // 2 - begin)
                table = pa.table(
                    {
                        "user": (200_000 * random.random(count) ** 2).astype(np.int64) + 10**12,
                        "item": (50_000 * random.random(count) ** 2).astype(np.int64),
                        "time": NOW + random.integers(10**8, size=count),
                        "kind": kinds.take(pa.array(random.integers(3, size=count))),
                        "device": devices.take(pa.array(random.integers(4, size=count))),
                    }
                )
                if writer is None:
                    writer = pq.ParquetWriter(sink, table.schema) if form == "parquet" else pc.CSVWriter(sink, table.schema)
                writer.write_table(table)
            if writer is not None:
                writer.close()


def measure(folder: Path, memory: str, threads: int | None) -> dict[str, float]:
    """Prepares the log in `folder`; its counts, seconds and peak in MB."""
    schema = read(Schema, {"name": "many", "events": {"file": "raw", "action": {"kind": {}}, "context": {"device": {}}}})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    log = prepare(folder, folder / "log", schema, memory=memory, threads=threads)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"events": log.size, "users": log.users.num_rows, "seconds": round(seconds, 1), "peak": peak // 1024, "imports": before // 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--memory", default="1GB")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--form", choices=("parquet", "csv"), default="parquet")
    parser.add_argument("--folder", type=Path, help="where the files are made; gone afterwards")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(given.measure, given.memory, given.threads)))
        return
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        (Path(folder) / "raw").mkdir()
        write(Path(folder) / "raw", given.rows, given.form)
        command = [sys.executable, __file__, "--measure", folder, "--memory", given.memory]
        command += ["--threads", str(given.threads)] if given.threads else []
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    print(json.dumps({"rows": given.rows, "form": given.form, "memory": given.memory, **json.loads(done.stdout)}))


if __name__ == "__main__":
    main()
