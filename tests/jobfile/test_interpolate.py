import datetime as dt
from pathlib import Path

import pytest

from batchgen.jobfile.interpolate import Placeholders, escape
from batchgen.jobfile.tree import Node, SourceLocation, children, to_python

DATE = dt.date(2026, 3, 9)
PLACE = SourceLocation("job.yaml", 1, 1)


def node(value: object) -> Node:
    if isinstance(value, dict):
        return Node({key: node(inner) for key, inner in value.items()}, PLACE, "job")
    if isinstance(value, list):
        return Node(tuple(node(inner) for inner in value), PLACE, "job")
    assert value is None or isinstance(value, bool | int | float | str)
    return Node(value, PLACE, "job")


def placeholders() -> Placeholders:
    environment = {"SHOP": "Acme ${date}", "EMPTY": "", "BROKEN": "\udcff"}
    return Placeholders(environment, DATE, {"job.yaml": Path("/jobs")})


def filled(text: str, **variables: object) -> object:
    known = placeholders()
    tree = known.fill_job(node({"name": "n1", "description": text}), node(variables))
    assert known.problems == []
    return to_python(children(tree)["description"])


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("${env:SHOP}", "Acme ${date}"),  # inserted text is not interpolated again
        ("a ${env:SHOP:-x} b", "a Acme ${date} b"),
        ("${env:NONE:-x:-y}", "x:-y"),
        ("${env:NONE:-}", ""),
        ("${env:EMPTY:-x}", "x"),
        ("${date}", "2026-03-09"),
        ("${date:%Y%m%d}", "20260309"),
        ("${date:%d.%m.%y, week %V, 100%%}", "09.03.26, week 11, 100%"),
        ("${date:%Y年%m月}", "2026年03月"),
        ("${date-1d}", "2026-03-08"),
        ("${date:-1d}", "2026-03-08"),
        ("${date+2w}", "2026-03-23"),
        ("${date-9d:%Y%m%d}", "20260228"),
        ("${date:-1w:%m/%d}", "03/02"),
        ("${name}/${name}", "n1/n1"),
        ("${here}/x", "/jobs/x"),
        ("$${name} $${", "${name} ${"),
        ("$$${name}", "$${name}"),
        ("$name {name} $", "$name {name} $"),
        ("n=${vars.n}, t=${vars.t}, f=${vars.f}", "n=3, t=true, f=0.5"),
    ],
)
def test_values_of_placeholders(text: str, meant: str) -> None:
    assert filled(text, n=3, t=True, f=0.5) == meant


@pytest.mark.parametrize("value", [3, 0.5, True, "3"], ids=repr)
def test_a_lone_variable_keeps_its_type(value: object) -> None:
    found = filled("${vars.v}", v=value)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${date:%Y-%m-1d}", "an offset behind the form %Y-%m-1d"),
        ("${env:NONE}", "the environment variable NONE is not set, or empty"),
        ("${env:EMPTY}", "the environment variable EMPTY is not set, or empty"),
        ("${env:BROKEN}", "the environment variable BROKEN is not UTF-8 text"),
        ("${env:A B}", "unknown placeholder ${env:A B}; expected one of "),
        ("${nmae}", "unknown placeholder ${nmae}; expected one of "),
        ("${}", "unknown placeholder ${}; expected one of "),
        ("${vars.m}", "unknown placeholder ${vars.m}; expected one of "),
        ("x ${vars.m}", "unknown placeholder ${vars.m}; expected one of "),
        ("${date:%Q}", "unknown date field %Q"),
        ("${date:%99999999d}", "unknown date field %9"),
        ("${date:%}", "unknown date field %"),
        ("${date:}", "unknown date field "),
        ("${date:YYYY-MM-DD}", "unknown date field YYYY-MM-DD"),
        ("${date:yesterday}", "unknown date field yesterday"),
        ("${date:-1h}", "unknown offset :-1h of a date"),
        ("${date-1m}", "unknown offset -1m of a date"),
        ("${date-1}", "unknown offset -1 of a date"),
        ("a ${name", "a ${ that is not closed"),
        ("a ${", "a ${ that is not closed"),
    ],
)
def test_undefined_placeholders_are_problems(text: str, message: str) -> None:
    known = placeholders()
    tree = known.fill_job(node({"name": "n1", "x": [{"y": text}]}), node({"n": 3}))
    assert to_python(tree) == {"name": "n1", "x": [{"y": text}]}
    (problem,) = known.problems
    assert problem.message.startswith(message)
    assert (problem.key, problem.line) == ("x[0].y", 1)


def test_prompts_are_not_interpolated() -> None:
    known = placeholders()
    prompt = {"user": "${name} ${nothing", "messages": ["${date}"]}
    assert to_python(known.fill_job(node({"prompt": prompt}), None)) == {"prompt": prompt}
    assert known.problems == []


def test_a_name_may_hold_the_date_and_variables_but_not_itself() -> None:
    known = placeholders()
    tree = known.fill_job(
        node({"name": "${vars.a}-${date:%d}", "x": "${name}"}), node({"a": "r${env:SHOP}"})
    )
    assert to_python(tree) == {"name": "rAcme ${date}-09", "x": "rAcme ${date}-09"}
    known = placeholders()
    known.fill_job(node({"name": "${name}"}), None)
    assert [p.key for p in known.problems] == ["name"]


def test_variables_do_not_refer_to_variables() -> None:
    known = placeholders()
    known.fill_job(node({}), node({"a": "${vars.b}", "b": "${name}", "c": [1]}))
    assert [p.key for p in known.problems] == ["vars.a", "vars.b", "vars.c"]


def test_the_hint_names_a_similar_variable() -> None:
    known = placeholders()
    known.fill_job(node({"x": "${vars.shp}", "y": "${dat}"}), node({"shop": 1}))
    assert [p.hint for p in known.problems] == [
        "Did you mean ${vars.shop}?",
        "Did you mean ${date}?",
    ]


@pytest.mark.parametrize("text", ["${name}", "$${name}", "$$${", "plain $ {", "${", "$"])
def test_escaped_text_is_literal(text: str) -> None:
    assert filled(escape(text)) == text


def test_values_keep_their_source_text() -> None:
    tree = placeholders().fill_job(node({"a": "${date}", "b": "x"}), None)
    assert {key: child.raw for key, child in children(tree).items()} == {"a": "${date}", "b": ""}
