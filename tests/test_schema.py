"""What the columns of a log mean: read, and refused where it contradicts itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from penchant.config import dump, read
from penchant.conformance.world import SCHEMA
from penchant.errors import ConfigError, SchemaError
from penchant.schema import Field, Schema, read_schema


def said(events: dict[str, Any] | None = None, **more: Any) -> str:
    with pytest.raises(SchemaError) as caught:
        read(Schema, {"name": "n", "events": {"file": "e.csv"} | (events or {})} | more, error=SchemaError)
    return str(caught.value)


def test_fields_by_group_and_kind(tmp_path: Path) -> None:
    (tmp_path / "schema.toml").write_text(SCHEMA)
    schema = read_schema(tmp_path / "schema.toml")
    assert [(group, name) for group, name, _ in schema.fields()] == [
        ("item", "maker"),
        ("item", "tags"),
        ("item", "price"),
        ("user", "town"),
        ("user", "age"),
        ("action", "kind"),
        ("action", "dwell"),
        ("context", "device"),
        ("context", "battery"),
    ]
    assert schema.named("item", "category") == ("maker",)
    assert schema.named("item", "number", "categories") == ("tags", "price")
    assert schema.named("context", "number") == ("battery",)
    (tmp_path / "again.toml").write_text(dump(schema), encoding="utf-8")
    assert read_schema(tmp_path / "again.toml") == schema


def test_a_schema_needs_no_more_than_a_file() -> None:
    schema = read(Schema, {"name": "n", "events": {"file": "e.csv"}})
    assert list(schema.fields()) == []
    assert (schema.events.user, schema.events.item, schema.events.time.column, schema.events.time.unit) == ("user", "item", "time", "s")
    assert schema.named("user", "category") == ()


@pytest.mark.parametrize("group", ["action", "context"])
def test_several_valued_categories_are_of_items_only(group: str) -> None:
    message = "Schema: {} field 'x' has kind 'categories', which only items have; use 'category' or 'number'."
    assert said({group: {"x": {"kind": "categories"}}}) == message.format(group)
    assert said(users={"file": "u.csv", "fields": {"x": {"kind": "categories"}}}) == message.format("user")


def test_context_cannot_have_the_name_of_a_moment() -> None:
    assert said({"context": {"hour": {}}}) == "Schema: context field 'hour' has the name of a derived moment; name it otherwise."


def test_names_that_differ_in_case_only() -> None:
    message = "Schema: context fields 'w' and 'W' differ in case only; name one of them otherwise."
    assert said({"context": {"w": {}, "W": {}}}) == message
    apart = read(Schema, {"name": "n", "events": {"file": "e", "context": {"w": {}}, "action": {"W": {}}}})
    assert apart.named("action", "category") == ("W",)


def test_past_of_positives_needs_a_label() -> None:
    message = "Schema: events.past is 'positive', but without events.label every event is; leave it out."
    assert said({"past": "positive"}) == message


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ({"usr": "u"}, "events.usr is not a key of Events. Did you mean 'user'?"),
        ({"time": {"unit": "h"}}, "events.time.unit is 'h'; input should be 's', 'ms', 'us', 'iso' or 'rows'."),
        (
            {"label": {"column": "r"}},
            "events.label is {'column': 'r'}; "
            "a label needs either at_least (a number) or one_of (a list of values); exactly one of them was wanted.",
        ),
        ({"label": {"column": "r", "at_least": float("inf")}}, "events.label.at_least is inf; input should be a finite number."),
        ({"separator": ""}, "events.separator is ''; string should have at least 1 character."),
        ({"separator": "12345"}, "events.separator is '12345'; string should have at most 4 characters."),
        ({"zone": "Mars"}, "events.zone is 'Mars'; no such time zone is known here; one such as 'UTC' or 'Europe/Berlin' was wanted."),
        ({"moment": ["minute"]}, "events.moment.0 is 'minute'; input should be 'hour', 'weekday', 'month' or 'tenure'."),
        ({"action": {"x": {"most": 0}}}, "events.action.x.most is 0; input should be greater than or equal to 1."),
        ({"action": {"x": {"kid": "number"}}}, "events.action.x.kid is not a key of Field. Did you mean 'kind'?"),
    ],
)
def test_values_out_of_range(events: dict[str, Any], message: str) -> None:
    assert said(events) == f"Schema: {message}"


def test_read_schema_names_its_file(tmp_path: Path) -> None:
    path = tmp_path / "schema.toml"
    path.write_text("[events]\nfile = 5\n")
    with pytest.raises(SchemaError) as caught:
        read_schema(path)
    assert str(caught.value) == (
        "schema schema.toml: name is missing, and has no default.\nschema schema.toml: events.file is 5; input should be a valid string."
    )
    path.unlink()
    with pytest.raises(ConfigError) as caught_missing:
        read_schema(path)
    assert str(caught_missing.value) == f"{path}: there is no such file."
    assert isinstance(caught_missing.value, SchemaError)


def test_a_field_is_read_from_its_own_name_by_default() -> None:
    assert Field() == Field(column=None, kind="category", separator="|", most=8)
