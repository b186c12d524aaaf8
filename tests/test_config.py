"""Strict configuration: whatever the source, what is not known or not possible is said, all at once."""

from __future__ import annotations

import datetime
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field as Limits
from pydantic import ValidationError, model_validator

from penchant.config import Config, dump, parse_flags, read, validate
from penchant.errors import ConfigError, PenchantError, SchemaError
from penchant.train.config import RunConfig


class Layer(Config):
    width: int = Limits(8, ge=1)
    act: str = "relu"


class Net(Config):
    name: str
    hidden: tuple[int, ...] = (200, 80)
    rate: float = Limits(0.1, ge=0, lt=1)
    on: bool = False
    last: Layer = Layer()
    layers: dict[str, Layer] = {}
    extra: Layer | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Net:
        if self.name == "odd":
            raise ValueError("Name 'odd' is taken.")
        return self


def said(source: object, **more: object) -> str:
    with pytest.raises(ConfigError) as caught:
        read(Net, source, **more)  # type: ignore[arg-type]
    assert isinstance(caught.value, PenchantError)
    assert isinstance(caught.value, ValueError)
    return str(caught.value)


def test_unknown_key_names_the_nearest() -> None:
    assert said({"name": "n", "hiden": [64]}) == "Net: hiden is not a key of Net. Did you mean 'hidden'?"


def test_unknown_key_with_nothing_near_lists_all() -> None:
    assert said({"name": "n", "zzz": 1}) == "Net: zzz is not a key of Net. It has name, hidden, rate, on, last, layers, extra."


@pytest.mark.parametrize("path", ["last", "extra", "layers.a"])
def test_unknown_key_below_names_its_own_class(path: str) -> None:
    message = said({"name": "n"}, flags={f"{path}.widht": 3})
    assert message == f"Net: {path}.widht is not a key of Layer. Did you mean 'width'?"


def test_all_faults_are_said_at_once_each_with_its_path() -> None:
    values = {"hidden": [1, "x"], "rate": 1.0, "last": {"width": 0}, "layers": {"a": {"act": 5, "wdth": 1}, "b": 7}, "on": 1}
    assert said(values, where="config net.toml").splitlines() == [
        "config net.toml: name is missing, and has no default.",
        "config net.toml: hidden.1 is 'x'; input should be a valid integer.",
        "config net.toml: rate is 1.0; input should be less than 1.",
        "config net.toml: on is 1; input should be a valid boolean.",
        "config net.toml: last.width is 0; input should be greater than or equal to 1.",
        "config net.toml: layers.a.act is 5; input should be a valid string.",
        "config net.toml: layers.a.wdth is not a key of Layer. Did you mean 'width'?",
        "config net.toml: layers.b is 7; input should be a valid dictionary or instance of Layer.",
    ]


def test_contradiction_found_by_a_class_is_said_plainly() -> None:
    assert said({"name": "odd"}) == "Net: name 'odd' is taken."


def test_validate_puts_its_path_before_each_key() -> None:
    with pytest.raises(SchemaError) as caught:
        validate(Layer, {"width": 0, "at": 1}, where="config a.toml", under="model.last", error=SchemaError)
    assert str(caught.value).splitlines() == [
        "config a.toml: model.last.width is 0; input should be greater than or equal to 1.",
        "config a.toml: model.last.at is not a key of Layer. Did you mean 'act'?",
    ]


def test_strict_types_are_not_turned_into_each_other() -> None:
    assert said({"name": 5}) == "Net: name is 5; input should be a valid string."
    assert said({"name": "n", "rate": "0.1"}) == "Net: rate is '0.1'; input should be a valid number."
    assert said({"name": "n", "hidden": 64}) == "Net: hidden is 64; input should be a valid tuple."
    assert read(Net, {"name": "n", "rate": 0}).rate == 0.0


def test_configuration_is_frozen_and_keyword_only() -> None:
    net = read(Net, {"name": "n", "hidden": [1]})
    with pytest.raises(ValidationError):
        net.name = "m"  # type: ignore[misc]
    with pytest.raises(TypeError):
        Net("n")  # type: ignore[call-arg, misc]
    assert net.hidden == (1,)
    assert hash(net.last) == hash(Layer())


def test_flags_override_and_leave_the_source_as_it_is(tmp_path: Path) -> None:
    source = {"name": "n", "last": {"width": 3}}
    net = read(Net, source, {"last.width": 5, "layers.new.act": "prelu", "rate": 0.5})
    assert (net.last.width, net.layers["new"].act, net.rate) == (5, "prelu", 0.5)
    assert source == {"name": "n", "last": {"width": 3}}
    path = tmp_path / "net.toml"
    path.write_text('name = "file"\nhidden = [1, 2]\n[last]\nwidth = 3\nact = "dice"\n', encoding="utf-8")
    assert read(Net, path, {"last.width": 4}) == Net(name="file", hidden=(1, 2), last=Layer(width=4, act="dice"))


def test_flag_under_a_value_is_refused() -> None:
    assert said({"name": "n"}, flags={"name.first": 1}) == "Net: name is a value, so name.first cannot be set under it."
    deep = said({"name": "n", "last": {"width": 3}}, flags={"last.width.of": 1})
    assert deep == "Net: last.width is a value, so last.width.of cannot be set under it."


RUN = """
log = "folder"
auxiliary = "iacn"
loss = "bpr"
[model]
name = "mf"
bias = true
"""


@pytest.mark.parametrize(
    ("words", "model", "auxiliary"),
    [
        ([], {"name": "mf", "bias": True}, {"name": "iacn"}),
        (["--auxiliary.delta", "0.5"], {"name": "mf", "bias": True}, {"name": "iacn", "delta": 0.5}),
        (["--auxiliary", "wider", "--auxiliary.extra", "4"], {"name": "mf", "bias": True}, {"name": "wider", "extra": 4}),
        (["--auxiliary.extra", "4", "--auxiliary", "wider"], {"name": "mf", "bias": True}, {"name": "wider", "extra": 4}),
        (["--model", "din"], {"name": "din"}, {"name": "iacn"}),  # in place of the table, whose keys were another's
        (["--model.normalize=softmax", "--model", "din"], {"name": "din", "normalize": "softmax"}, {"name": "iacn"}),
        (["--model.name", "din"], {"name": "din", "bias": True}, {"name": "iacn"}),
    ],
)
def test_a_name_alone_is_a_table_of_that_name(
    words: list[str], model: dict[str, object], auxiliary: dict[str, object], tmp_path: Path
) -> None:
    (tmp_path / "run.toml").write_text(RUN)
    config = read(RunConfig, tmp_path / "run.toml", parse_flags(words))
    assert (config.model, config.auxiliary, config.loss) == (model, auxiliary, {"name": "bpr"})
    again = tmp_path / "again.toml"
    again.write_text(dump(config))
    assert read(RunConfig, again) == config


def test_a_name_alone_stands_for_no_table_of_known_keys() -> None:
    with pytest.raises(ConfigError) as caught:
        read(RunConfig, {"log": "folder", "train": "quick"}, {"train.epochs": 3, "auxiliary": 5})
    assert "train is a value, so train.epochs cannot be set under it." in str(caught.value)
    with pytest.raises(ConfigError, match="auxiliary is 5; input should be a valid dictionary"):
        read(RunConfig, {"log": "folder", "auxiliary": 5})


@pytest.mark.parametrize(
    ("words", "flags"),
    [
        ([], {}),
        (["--train.epochs", "3", "--model.name=din"], {"train.epochs": 3, "model.name": "din"}),
        (["--head=[64, 32]", "--on", "true", "--rate", "1e-3"], {"head": [64, 32], "on": True, "rate": 0.001}),
        (["--name", '"5"', "--id", "007", "--empty="], {"name": "5", "id": "007", "empty": ""}),
        (["--date=2020-01-02"], {"date": datetime.date(2020, 1, 2)}),
        (["--a=b=c", "--negative", "-1", "--a=last wins"], {"a": "last wins", "negative": -1}),
        (["--text", "1\nother = 2"], {"text": "1\nother = 2"}),
    ],
)
def test_parse_flags(words: list[str], flags: dict[str, object]) -> None:
    assert parse_flags(words) == flags


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train.epochs", "3"], "'train.epochs' is not a flag: write --key.of.config VALUE."),
        (["-x", "3"], "'-x' is not a flag: write --key.of.config VALUE."),
        (["--"], "'--' is not a flag: write --key.of.config VALUE."),
        (["--a", "1", "--b"], "--b has no value: write --b VALUE."),
    ],
)
def test_words_that_are_no_flags(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_flags(words)
    assert str(caught.value) == message


def test_file_faults(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    assert said(path) == f"{path}: there is no such file."
    assert said(tmp_path) == f"{tmp_path}: this is a folder; a TOML file was wanted."
    path.write_bytes(b'name = "caf\xe9"\n')
    assert said(str(path)) == f"{path}: not UTF-8 text (invalid continuation byte at byte 11); a TOML file was wanted."
    path.write_text("name = \n")
    assert said(path) == f"{path}: not TOML: Invalid value (at line 1, column 8)."
    path.write_text('nam = "n"\n')
    assert said(path) == "config a.toml: name is missing, and has no default.\nconfig a.toml: nam is not a key of Net. Did you mean 'name'?"
    assert said(path / "below") == f"{path / 'below'}: cannot be read ({os.strerror(20)})."


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=8)
LAYERS = st.builds(Layer, width=st.integers(1, 2**40), act=TEXT)


@settings(max_examples=60, deadline=None)
@given(
    st.builds(
        Net,
        name=TEXT.filter(lambda name: name != "odd"),
        hidden=st.lists(st.integers(-5, 5), max_size=3).map(tuple),
        rate=st.floats(0, 1, exclude_max=True),
        on=st.booleans(),
        last=LAYERS,
        layers=st.dictionaries(TEXT, LAYERS, max_size=3),
        extra=st.none() | LAYERS,
    )
)
def test_what_is_dumped_is_read_back(tmp_path_factory: pytest.TempPathFactory, net: Net) -> None:
    path = tmp_path_factory.mktemp("dump") / "net.toml"
    path.write_bytes(dump(net).encode())
    assert read(Net, path) == net


def test_what_is_none_is_absent_from_a_dump() -> None:
    assert dump(Layer()) == 'width = 8\nact = "relu"\n'
    assert "extra" not in dump(Net(name="n"))
