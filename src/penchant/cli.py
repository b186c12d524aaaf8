"""The command line: a thin list of functions that one can also call.

Results go to stdout, as a table or with --json as one JSON object; progress goes to stderr when that is a terminal.
Exit status: 0; 2 for what the user can mend; 1 for what is ours.
"""

from __future__ import annotations

import json as jsonlib
import sys
import traceback
from contextlib import redirect_stdout
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

from cyclopts import App, CycloptsError, Parameter
from rich.console import Console

from penchant import __version__
from penchant.errors import ConfigError, PenchantError
from penchant.progress import progress

if TYPE_CHECKING:
    from penchant.train.config import RunConfig
    from penchant.train.fit import Run

app = App(name="penchant", version=__version__, help="From a log of what people did to a served, explained recommender.")
data = App(name="data", help="Public data sets and your own logs.")
bench = App(name="bench", help="Speed, against a stated baseline in the same run.")
app.command(data)
app.command(bench)

Words = Annotated[str, Parameter(allow_leading_hyphen=True)]
Json = Annotated[bool, Parameter(name="--json", negative="", help="Print one JSON object and nothing else.")]


@app.command
def demo(*, out: Path = Path("demo"), json: Json = False) -> None:
    """The whole way on MovieLens-100K: get, prepare, train four models, compare, recommend.

    Parameters
    ----------
    out
        New folder for data, runs, bundle and report.
    """
    from penchant import show
    from penchant.demo import demo as run

    with progress() as shown:
        found = run(out, say=shown.stage, report=shown.run)
    if json:
        return _json(found.as_dict())
    console = _console()
    show.results(console, found.results, found.protocol)
    console.print(f"\n{found.difference['says']} (both at the same budget).", soft_wrap=True, highlight=False)
    console.print(f"\nFor person {found.person}, din recommends:", highlight=False)
    show.recommended(console, found.recommended)
    console.print()
    show.facts(console, {"bundle": found.bundle, "report": found.report, "seconds": found.seconds})


@data.command(name="list")
def data_list(*, json: Json = False) -> None:
    """The public data sets."""
    from penchant.data.sets import SETS

    if json:
        return _json({"sets": [{"name": s.name, "about": s.about, "events": s.counts.events, "licence": s.licence} for s in SETS.values()]})
    console = _console()
    for one in SETS.values():
        events = f"{one.counts.events:,} events. " if one.counts.events else ""
        console.print(f"{one.name}  {events}{one.about}", soft_wrap=True, highlight=False, markup=False)
        console.print(f"    {one.licence}", soft_wrap=True, highlight=False)


@data.command(name="get")
def data_get(name: str, folder: Path, *, rule: Literal["din", "dien"] | None = None, json: Json = False) -> None:
    """Fetch a public set as plain files with a schema.

    Parameters
    ----------
    name
        As `penchant data list` shows it; of a family such as amazon-<category>, with the category's name: amazon-books.
    folder
        New folder to write.
    rule
        Which of an Amazon item's categories counts: the last of its last path (din) or of its first (dien).
    """
    from penchant.data.sets import get

    got = get(name, folder, rule=rule)
    _facts({"folder": str(got.folder), "from": got.place, "events": got.events, "items": got.items, "users": got.users}, json)


@data.command(name="simulate")
def data_simulate(folder: Path, *config: Words, json: Json = False) -> None:
    """Make a market whose truth is known: raw files with a schema, and the truth beside them.

    Example: penchant data simulate market --people 1000 --context 0

    Parameters
    ----------
    folder
        New folder to write.
    config
        A TOML file of MarketConfig, then keys that override it, such as --people 1000 --seed 1.
    """
    from penchant.config import parse_flags, read
    from penchant.data.sets.market import MarketConfig, make_market

    file, words = (Path(config[0]), config[1:]) if config and not config[0].startswith("--") else (None, config)
    made = make_market(folder, read(MarketConfig, file or {}, parse_flags(words), where=None if file else "flags"))
    _facts({name: str(value) if isinstance(value, Path) else value for name, value in asdict(made).items()}, json)


@data.command(name="prepare")
def data_prepare(
    source: Path,
    out: Path,
    *,
    schema: Path | None = None,
    memory: str = "1GB",
    bad_rows: Literal["refuse", "skip"] = "refuse",
    json: Json = False,
) -> None:
    """Turn raw files and their schema into a Log.

    Parameters
    ----------
    source
        Folder of the raw files, with schema.toml.
    out
        New folder for the Log.
    schema
        Another schema file than SOURCE/schema.toml.
    memory
        What sorting may use, such as 500MB; beyond it, it spills to disk.
    bad_rows
        skip leaves out rows that cannot be used, and says how many, why, and which were the first.
    """
    from penchant.data.prepare import prepare
    from penchant.schema import read_schema

    log = prepare(source, out, read_schema(schema) if schema else None, memory=memory, bad_rows=bad_rows)
    counts = {name: value for name, value in log.manifest.items() if isinstance(value, int) and name != "version"}
    skipped = log.manifest["skipped"]
    if json:
        return _json({"log": str(out), **counts, "skipped": skipped})
    _facts({"log": str(out), **counts}, json=False)
    for one in skipped:
        rows = f"{one['rows']:,} {'row' if one['rows'] == 1 else 'rows'} of {one['file']}"
        examples = f": {one['examples']}" if one["examples"] else ""
        _console().print(f"skipped {rows}: {one['why']}{examples}", soft_wrap=True, highlight=False, markup=False)


@data.command(name="check")
def data_check(
    log: Path,
    *,
    split: str | None = None,
    bundle: Path | None = None,
    tie: Literal["order", "strict"] = "order",
    json: Json = False,
) -> None:
    """Name leaks and traps of a Log, with examples; exit status 2 when one of them spoils numbers.

    Parameters
    ----------
    log
        Folder of the Log.
    split
        How the Log is split, such as time; by default as the bundle was trained, or leave-last-out.
    bundle
        A bundle whose vocabularies are to hold nothing but what trains.
    tie
        strict leaves events of the judged moment out of pasts.
    """
    from penchant import show
    from penchant.config import read
    from penchant.data.check import check
    from penchant.data.log import open_log
    from penchant.data.split import SplitConfig

    loaded = _bundle(bundle) if bundle else None
    own = loaded.facts.get("run", {}).get("split", {}) if loaded else {}
    config = read(SplitConfig, {"name": split} if split else own, where="--split" if split else "bundle")
    found = check(open_log(log), config, encoding=loaded.encoding if loaded else None, tie=tie).as_dict()
    _json(found) if json else show.checked(_console(), found)
    if found["grave"]:
        sys.exit(2)


@data.command(name="schema")
def data_schema(*files: Path, out: Path | None = None, json: Json = False) -> None:
    """Propose a schema from a sample of raw files, with what was guessed and why; edit it before you use it.

    Example: penchant data schema shop/clicks.csv shop/items.csv --out shop/schema.toml

    Parameters
    ----------
    files
        The files: events, and those of items and people if there are any; folders or quoted patterns too.
    out
        New file to write it to, the folder of the files; without it, it goes to stdout.
    """
    from penchant.data.propose import propose
    from penchant.files import write_new

    proposed = propose(files)
    text = proposed.toml()
    if out is not None:
        write_new(out, text, what="schema")
    if json:
        return _json({"schema": text, "reasons": proposed.reasons, "out": str(out) if out else None})
    if out is None:
        print(text, end="")
    else:
        _facts({"schema": str(out)}, json=False)


@app.command
def train(
    *config: Words,
    out: Path | None = None,
    resume: Path | None = None,
    from_: Annotated[Path | None, Parameter(name="--from")] = None,
    from_embeddings: Path | None = None,
    estimate: Annotated[bool, Parameter(negative="")] = False,
    json: Json = False,
) -> None:
    """Train a model into a run folder: config, metrics as JSON lines, checkpoints, bundle.

    Example: penchant train recipes/movielens-1m-din.toml --out runs/din --train.epochs 3
    Example: penchant train --log shop-log --from runs/monday/bundle --out runs/tuesday
    Example: penchant train --resume runs/din
    Example: penchant train recipes/movielens-1m-din.toml --estimate

    Parameters
    ----------
    config
        A TOML file, then dotted keys that override it. Without a file they say all: --log LOG --model.name din.
    out
        New folder for the run.
    resume
        The folder of a run that broke off or was killed, which goes on where its last checkpoint stands and ends with the bits of a run
        that never broke. It has its configuration, so nothing else is said.
    from_
        A bundle that the run continues on a Log that has grown, as --grow.bundle says too; what is not said is as in that bundle's run.
    from_embeddings
        A bundle, of any model, whose vectors of items and of their attributes the run starts from, as --embeddings says too.
    estimate
        Train nothing; say what the run would take in memory, disk and time, by some steps and validations done for real.
    """
    from penchant.config import parse_flags, read
    from penchant.models import label
    from penchant.train.config import RunConfig
    from penchant.train.fit import fit
    from penchant.train.fit import resume as go_on

    if resume is not None:
        if config or out is not None or from_ is not None or from_embeddings is not None or estimate:
            raise ConfigError("--resume goes on with a run as it was configured; nothing else can be said beside it.")
        with progress() as shown:
            shown.stage(f"resuming {resume}")
            return _trained(go_on(resume, report=shown.run), json)
    if out is None and not estimate:
        raise ConfigError("--out names the new folder for the run; or --resume one that broke off.")
    file, words = (Path(config[0]), config[1:]) if config and not config[0].startswith("--") else (None, config)
    flags = parse_flags(words)
    for key, flag, value in (("grow.bundle", "--from", from_), ("embeddings", "--from-embeddings", from_embeddings)):
        if value is not None and key in flags:
            raise ConfigError(f"{flag} and --{key} say the same; give one of them.")
        flags |= {} if value is None else {key: str(value)}
    settings = read(RunConfig, file or {}, flags, where=None if file else "flags")
    if out is None or estimate:
        return _estimated(settings, json)
    with progress() as shown:
        shown.stage(f"training {label(settings.model.get('name', 'din'), settings.auxiliary, settings.long)}")
        try:
            done = fit(settings, out, report=shown.run)
        except KeyboardInterrupt:
            _fail(130, f"interrupted; penchant train --resume {out} goes on with it." if out.exists() else "interrupted.", debug=False)
    _trained(done, json)


def _estimated(settings: RunConfig, json: bool) -> None:
    """What a run would take."""
    from penchant import show
    from penchant.train.estimate import estimate

    with progress() as shown:
        shown.stage("measuring some steps")
        found = estimate(settings)
    if json:
        return _json({**asdict(found), "seconds": found.seconds})
    show.estimated(_console(), found)


def _trained(done: Run, json: bool) -> None:
    """What a run came to."""
    from penchant import show

    rows = {"run": str(done.folder), "bundle": str(done.folder / "bundle"), "best": done.best, "seconds": round(done.seconds, 1)}
    findings = [asdict(finding) for finding in done.diagnosis]
    if json:
        return _json({**rows, "growth": done.growth, "embeddings": done.embeddings, "noise": done.noise, "diagnosis": findings})
    _facts(rows, json=False)
    show.grown(_console(), done.growth, done.embeddings)
    show.noise(_console(), done.noise)
    show.diagnosis(_console(), findings)


@app.command
def evaluate(
    bundle: Path,
    *,
    protocol: str = "loo-99",
    log: Path | None = None,
    against: Path | None = None,
    metric: str | None = None,
    seed: int = 0,
    slices: Annotated[bool, Parameter(negative="")] = False,
    lend: bool | None = None,
    keep: int | None = None,
    dialect: str | None = None,
    json: Json = False,
) -> None:
    """Metrics of a bundle with intervals, and its paired difference from another's.

    Parameters
    ----------
    bundle
        Folder of the bundle.
    protocol
        loo-99, loo-99-popular or loo-full; of any split last-99 or last-full; temporal-80-20, temporal-80-20-user; ctr, dien; of items
        that did not train, cold-99; among what requests showed, impressions; by the log's own labels, logged.
    log
        The Log to judge on; by default the one that the bundle was trained on.
    against
        Another bundle, judged on the same people and candidates.
    metric
        What the two are compared by; by default the metric that the protocol is read by.
    slices
        The metric apart as well: by person, past, item and moment.
    lend
        Lend events to people with little past, or do not; by default as the bundle serves them.
    keep
        As if nobody had more events than this, the latest; what is ranked stays the same.
    dialect
        The same scores by the arithmetic of recbole, fuxictr, torchrec, torch-rechub or din, and what they do otherwise.
    """
    from penchant import show
    from penchant.evaluate.compare import compare, described
    from penchant.evaluate.compare import evaluate as run
    from penchant.evaluate.dialect import in_dialect, refuse_dialect
    from penchant.evaluate.judged import parse_metric
    from penchant.evaluate.protocol import find_protocol
    from penchant.evaluate.slices import by_slice

    asked = find_protocol(protocol)
    if metric and not (against or slices):
        raise ConfigError("--metric says what bundles are compared by (--against), or seen apart by (--slices); give one of the two.")
    metric = metric or asked.paired_by
    parse_metric(metric)
    if dialect:
        refuse_dialect(dialect, asked)
    loaded = [_bundle(path) for path in (bundle, against) if path]
    opened = _log(loaded[0], log)
    with progress() as shown:
        judged = []
        for one in loaded:
            shown.stage(f"judging {one.label}")
            judged.append(run(one, opened, asked, seed=seed, progress=shown.judged, lend=lend, keep=keep))
    found: dict[str, Any] = {"results": [{"model": one.label, **result.summary()} for one, result in zip(loaded, judged, strict=True)]}
    if dialect:
        found["dialect"] = {one.label: in_dialect(result, dialect) for one, result in zip(loaded, judged, strict=True)}
    if slices:
        found["slices"] = {one.label: by_slice(result, metric) for one, result in zip(loaded, judged, strict=True)}
    if against:
        difference = compare(judged[0], judged[1], metric)
        found["difference"] = described(difference, loaded[0].label, loaded[1].label, metric, judged[1].value(metric))
    if json:
        return _json(found)
    console = _console()
    show.results(console, found["results"], asked.says)
    if dialect:
        show.dialect(console, found["dialect"])
    for label, rows in found.get("slices", {}).items():
        console.print(f"\n{label}", highlight=False)
        show.slices(console, rows, metric)
    if against:
        console.print(f"\n{found['difference']['says']}.", soft_wrap=True, highlight=False)


@app.command
def compare(
    config: Path,
    *,
    models: str,
    seeds: int = 1,
    out: Path,
    protocol: str | None = None,
    metric: str | None = None,
    figure: Path | None = None,
    json: Json = False,
) -> None:
    """Train and judge several models over several seeds, and say which differences are real.

    What OUT has already is kept; a run that broke goes on where it was.

    Parameters
    ----------
    config
        TOML file of a run: its Log, and the budget that all models get.
    models
        Names, separated by commas; din+iacn is din in an auxiliary network, din alone is without. In place of a name a run's TOML file,
        which brings a budget of its own.
    seeds
        How many, from the run's seed on.
    out
        Folder for the runs, what they did, and compare.json.
    protocol
        What all are judged by; by default what the first is validated by.
    metric
        What they are compared by; by default the metric that the protocol is read by.
    figure
        A new file for the table as a picture: .svg, .png or .pdf.
    """
    from penchant import show
    from penchant.compare import compare_models, entries
    from penchant.config import read
    from penchant.train.config import RunConfig

    given = entries(read(RunConfig, config), [model.strip() for model in models.split(",") if model.strip()])
    figures = _figures() if figure else None
    if figures and figure:
        figures.refuse_form(figure)
    with progress() as shown:
        compared = compare_models(
            given, seeds, out, protocol=protocol, metric=metric, say=shown.stage, report=shown.run, progress=shown.judged
        )
    if figures and figure:
        figures.comparison(compared, figure)
    if json:
        return _json(compared.as_dict())
    show.compared(_console(), compared)


@app.command
def recommend(
    bundle: Path,
    *,
    user: str,
    k: Annotated[int, Parameter(name=["-k", "--k"])] = 10,
    log: Path | None = None,
    reasons: int = 3,
    repeat: bool = False,
    lend: Annotated[bool, Parameter(negative="--no-lend")] = True,
    json: Json = False,
) -> None:
    """A list for one person, with the events that spoke for each item.

    Parameters
    ----------
    bundle
        Folder of the bundle.
    user
        The person's id in the log.
    k
        How many items.
    log
        The Log that holds their past; by default the one that the bundle was trained on.
    reasons
        Events to name for each item; 0 for none.
    repeat
        Whether items of their past may be recommended.
    lend
        Whether a bundle that lends may lend them events of others where their past is short.
    """
    from penchant import show
    from penchant.data.replay import request_now, user_number
    from penchant.scorer import Scorer

    if k < 1:
        raise ConfigError(f"-k is {k}; at least 1 was wanted.")
    loaded = _bundle(bundle)
    opened = _log(loaded, log)
    request = replace(request_now(opened, user_number(opened, user)), lend=lend)
    scored = Scorer(loaded).recommend(request, k, repeat=repeat, reasons=reasons)
    if json:
        return _json(scored.as_dict())
    show.recommended(_console(), scored)


@app.command
def check(model: str, *config: Words, json: Json = False) -> None:
    """Ask of a model what every model must obey, yours too; the exit status is 2 when a law is broken.

    Example: penchant check my_models:Mine --model.head [16,8]

    Parameters
    ----------
    model
        A name such as din, or module:Class, found in this folder or on Python's path; din+eta+iacn is din with
        a past shortened by eta, in an auxiliary network.
    config
        A TOML file of [model], [item], [long] and [auxiliary], then dotted keys that override it, such as --model.head [16,8] --item.dim 8.
    """
    from penchant import show
    from penchant.config import parse_flags, read
    from penchant.conformance.check import CheckConfig, check_model

    file, words = (Path(config[0]), config[1:]) if config and not config[0].startswith("--") else (None, config)
    settings = read(CheckConfig, file or {}, parse_flags(words), where=None if file else "flags")
    sys.path.insert(0, str(Path.cwd()))
    with progress() as shown, redirect_stdout(sys.stderr):  # a model may print
        shown.stage(f"checking {model}")
        found = check_model(
            model,
            settings.model,
            item=settings.item,
            auxiliary=settings.auxiliary,
            long=settings.long,
            report=lambda law: shown.stage(f"checking {model}: {law}"),
        )
    if json:
        _json(found.as_dict())
    else:
        show.laws(_console(), found.as_dict())
    if not found.holds:
        sys.exit(2)


@bench.command(name="train")
def bench_train(
    *,
    model: str = "din",
    rounds: int = 5,
    steps: int = 20,
    full: bool = False,
    threads: int | None = None,
    against: str | None = None,
    trim: bool = False,
    peers: Path = Path(".peers"),
    json: Json = False,
) -> None:
    """Training samples a second, beside a fixed reference loop, the step's arithmetic floor, and another library.

    Parameters
    ----------
    rounds
        Alternating rounds of the loops.
    steps
        Steps a round.
    full
        All pasts exactly 50 events long, instead of 9 on average.
    threads
        Of each loop; by default as many as torch takes.
    against
        A library whose own model takes its turn on the same data: fuxictr, torch_rechub or deepctr_torch.
    trim
        Its pasts end with the longest of their batch, where it can, instead of at 50.
    peers
        Where `penchant bench peer` put that library.
    """
    from penchant import show
    from penchant.bench.train import bench_train as run

    with progress() as shown:
        shown.stage("measuring")
        found = run(
            model=model,
            rounds=rounds,
            steps=steps,
            full=full,
            threads=threads,
            against=against,
            trim=trim,
            peers=peers,
            report=shown.measured,
        )
    if json:
        return _json(found.as_dict())
    show.bench(_console(), found.as_dict())


@bench.command(name="score")
def bench_score(
    *,
    model: str = "din",
    events: int = 200,
    candidates: int = 1000,
    rounds: int = 9,
    threads: int | None = None,
    against: str | None = None,
    peers: Path = Path(".peers"),
    json: Json = False,
) -> None:
    """Milliseconds to score one person's candidates, beside tiling the past for each of them.

    Parameters
    ----------
    events
        Of the person's past.
    rounds
        Requests that are measured, each in turn.
    threads
        Of each; by default as many as torch takes.
    against
        A library whose own model takes its turn: fuxictr, torch_rechub or deepctr_torch.
    peers
        Where `penchant bench peer` put that library.
    """
    from penchant import show
    from penchant.bench.score import bench_score as run

    with progress() as shown:
        shown.stage("measuring")
        found = run(
            model=model, events=events, candidates=candidates, rounds=rounds, threads=threads, against=against, peers=peers
        ).as_dict()
    if json:
        return _json(found)
    show.bench_score(_console(), found)


@bench.command(name="prepare")
def bench_prepare(*, events: int = 1_000_000, memory: str = "1GB", folder: Path | None = None, json: Json = False) -> None:
    """How long preparing a made log of CSV with string ids takes, and how much memory.

    Parameters
    ----------
    memory
        What sorting may use, such as 500MB; beyond it, it spills to disk.
    folder
        Where the files are made; they are gone afterwards.
    """
    from penchant import show
    from penchant.bench.prepare import bench_prepare as run

    with progress() as shown:
        shown.stage(f"making and preparing {events:,} events")
        found = run(events=events, memory=memory, folder=folder).as_dict()
    if json:
        return _json(found)
    show.bench_prepare(_console(), found)


@bench.command(name="check")
def bench_check(*, baseline: Path = Path("bench/baseline.json"), write: bool = False, json: Json = False) -> None:
    """Measure all ratios to the reference, and compare them with a baseline; the exit status is 2 where one fell by 15%.

    Parameters
    ----------
    baseline
        The file of the baseline.
    write
        Write what is measured as the new baseline, and compare nothing.
    """
    from penchant import show
    from penchant.bench.baseline import as_dicts, compare, measure, read_baseline
    from penchant.bench.baseline import write as write_baseline

    before = {} if write else read_baseline(baseline)
    with progress() as shown:
        now = measure(say=shown.stage)
    if write:
        write_baseline(baseline, now)
        return _facts({"baseline": str(baseline), **now}, json)
    found = as_dicts(compare(now, before))
    _json({"compared": found}) if json else show.baseline(_console(), found)
    if any(one["fell"] for one in found):
        sys.exit(2)


@bench.command(name="peer")
def bench_peer(name: str, *, peers: Path = Path(".peers"), json: Json = False) -> None:
    """Install another library into an environment of its own, for `bench train --against`.

    Parameters
    ----------
    name
        fuxictr, torch_rechub or deepctr_torch.
    peers
        The folder that holds the environments.
    """
    from penchant.bench.against import make_environment

    with progress() as shown:
        shown.stage(f"installing {name}")
        python = make_environment(name, peers)
    _facts({"peer": name, "python": str(python)}, json)


def _figures() -> Any:
    """The module that draws. Raises ConfigError where matplotlib is not installed."""
    try:
        from penchant import figures
    except ModuleNotFoundError as fault:
        raise ConfigError(f"figures need {fault.name}: pip install 'penchant[viz]'.") from None
    return figures


def main(tokens: list[str] | None = None) -> None:
    """The entry point: runs a command and exits with its status."""
    words = list(sys.argv[1:] if tokens is None else tokens)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        app(words, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as fault:
        _fail(2, str(fault), debug)
    except PenchantError as fault:
        _fail(2, str(fault), debug)
    except KeyboardInterrupt:
        _fail(130, "interrupted.", debug=False)
    except BrokenPipeError:
        sys.exit(0)
    except Exception as fault:
        _fail(1, f"this should not happen: {type(fault).__name__}: {fault}. Run again with --debug for the traceback.", debug)


def _fail(status: int, message: str, debug: bool) -> NoReturn:
    if debug:
        traceback.print_exc()
    print(f"penchant: {message}", file=sys.stderr)
    sys.exit(status)


def _bundle(path: Path) -> Any:
    from penchant.bundle import load_bundle

    return load_bundle(path)


def _log(bundle: Any, log: Path | None) -> Any:
    from penchant.data.log import open_log

    named = log or bundle.facts.get("log")
    if named is None:
        raise ConfigError("this bundle does not say which Log it was trained on; name one with --log.")
    return open_log(named)


def _console() -> Console:
    """stdout; wide where it is no terminal, so that a table in a file or a pipe keeps its lines."""
    return Console() if sys.stdout.isatty() else Console(width=160)


def _json(value: Any) -> None:
    print(jsonlib.dumps(value, default=str))


def _facts(rows: dict[str, Any], json: bool) -> None:
    from penchant import show

    if json:
        return _json(rows)
    show.facts(_console(), rows)
