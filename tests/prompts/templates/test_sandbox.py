import resource
import signal
import time
import tracemalloc
from datetime import date
from decimal import Decimal
from itertools import pairwise

import pytest

from batchgen.prompts.templates.sandbox import InvalidTemplateError, Template
from batchgen.records import Failure

FIELDS = {
    "q": "What is 7*7?",
    "empty": "",
    "null": None,
    "number": 3,
    "day": date(2026, 3, 7),
    "price": Decimal("1.50"),
    "tags": ["a", "b"],
    "raw": b"abc",
    "secret": "row-text-7f3a",
    "n": 10**12,
}

RENDERED = [
    pytest.param("Q: {{ q }}\n", "Q: What is 7*7?\n", id="line-break-at-the-end-is-kept"),
    pytest.param("{{ q }}<b>&", "What is 7*7?<b>&", id="nothing-is-escaped"),
    pytest.param("{{ number + 1 }} {{ day }} {{ price }}", "4 2026-03-07 1.50", id="typed-values"),
    pytest.param("{{ tags | join('+') }}", "a+b", id="lists"),
    pytest.param("{{ tags }} {{ {'你': [1, none, true, day]} }}", '["a", "b"] {"你": [1, null, true, "2026-03-07"]}', id="nested-values-are-json"),
    pytest.param("{% for t in tags %}{{ loop.index }}{{ t }}{% if not loop.last %},{% endif %}{% endfor %}", "1a,2b", id="loops"),
    pytest.param("{{ {'你': '<', 'd': day} | tojson }}", '{"你": "<", "d": "2026-03-07"}', id="json-is-readable"),
    pytest.param("{{ null | default('-') }}", "-", id="null-with-default"),
    pytest.param("{{ null or '-' }}", "-", id="null-with-or"),
    pytest.param("{% if null %}a{% else %}b{% endif %}", "b", id="null-is-false"),
    pytest.param("{% if null is none %}none{% endif %}", "none", id="null-is-none"),
    pytest.param("{% if null is defined %}a{% else %}b{% endif %}", "b", id="null-is-not-defined"),
    pytest.param("{{ null == none }} {{ null == 'x' }}", "True False", id="null-compared"),
    pytest.param("{{ empty }}", "", id="empty-text-is-a-value"),
]  # fmt: skip

NULLS = [
    "{{ null }}",
    "{{ null | upper }}",
    "{{ null ~ 'x' }}",
    "{{ [null] }}",
    "{{ {'a': null} | tojson }}",
    "{{ null.part }}",
    "{{ null | length }}",
    "{% for c in null %}{% endfor %}",
    "{{ '%s' | format(null) }}",
    "{{ [null, 'x'] | join }}",
]

FAILURES = [
    pytest.param("{{ ''.__class__ }}", "sandbox", id="attributes-of-python"),
    pytest.param("{{ q.__init__.__globals__ }}", "sandbox", id="globals"),
    pytest.param("{{ '{0.__class__}'.format(q) }}", "sandbox", id="format-string"),
    pytest.param("{{ tags.append('c') }}", "sandbox", id="changing-a-value"),
    pytest.param("{{ 1 / (number - 3) }}", "division by zero", id="division"),
    pytest.param("{{ q.nothing }}", "does not exist", id="no-such-attribute"),
    pytest.param("{{ secret | round }}", "failed", id="filter"),
    pytest.param("{{ tags[7] }}", "does not exist", id="no-such-item"),
    pytest.param("{{ raw }}", "bytes", id="bytes"),
    pytest.param("{{ q.upper }}", "function", id="function-not-called"),
    pytest.param("{{ tags | map('upper') }}", "generator", id="generator"),
    pytest.param("{{ none }}", "null", id="null-expression"),
    pytest.param(
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "endless recursion", id="recursion"
    ),
    pytest.param("{{ null in 'abc' }}", "null in this row: null", id="null-is-named"),
]

SLOW = [
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{% for i in range(99999) %}{% set x = range(9999) | sort(reverse=true) %}{% endfor %}",
    "{% for i in range(99999) %}{% set x = range(9999) | list | tojson %}{% endfor %}",
]

DOUBLED = (
    "{% set n = namespace(x=['a'], y=['a']) %}{% for i in range(40) %}"
    "{% set n.x = [n.x, n.x] %}{% set n.y = [n.y, n.y] %}{% endfor %}"
)
"""A list of 2^40 texts that takes the space of 41 lists, and one that is equal to it."""

BOMBS = [
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{% for i in range(99999) %}{{ q * 100 }}{% endfor %}",
    "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "{{ 'a' * 300000000 }}",
    "{{ range(n) | length }}",
    "{% set ns = namespace(x=q) %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "{% set ns = namespace(x=q) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "{{ '%999999999d' | format(1) }}",
    "{{ '%999999999d' % 1 }}",
    "{{ '{:999999999}'.format(1) }}",
    "{{ q.zfill(n) }}",
    "{{ range(99999) | join(q * 9000) }}",
    "{{ (q * 9000).join(range(99999) | map('string')) }}",
    "{{ '\t'.expandtabs(n) | length }}",
    "{{ number.to_bytes(n, 'big') | length }}",
    "{{ range(99999) | map('string') | map('center', 99999) | list | length }}",
    "{% set n = namespace(a=2) %}{% for i in range(40) %}{% set n.a = n.a * n.a %}{% endfor %}",
    "{{ 7 ** 9999 ** 2 }}",
    DOUBLED + "{{ n.x }}",
    DOUBLED + "{{ n.x | string }}",
    DOUBLED + "{{ n.x | tojson }}",
    DOUBLED + "{{ n.x | sort }}",
    DOUBLED + "{{ n.x | pprint }}",
    DOUBLED + "{{ [n.x, n.y] | unique | list }}",
    DOUBLED + "{{ n.x == n.y }}",
    DOUBLED + "{{ n.x < n.y }}",
    DOUBLED + "{{ n.x in [n.y] }}",
    DOUBLED + "{{ n.x is eq(n.y) }}",
    DOUBLED + "{{ [n.x] | select('eq', n.y) | list }}",
    DOUBLED + "{{ [n.x].count(n.y) }}",
    DOUBLED + "{{ [n.x] | max }}{{ [n.x, n.y] | max }}",
    DOUBLED + "{{ '%s' | format(n.x) }}",
    DOUBLED + "{{ '%s' % [n.x] }}",
    DOUBLED + "{{ '{}'.format(n.x) }}",
    DOUBLED + "{{ n.x ~ '' }}",
    DOUBLED + "{{ [n.x] | join }}",
    DOUBLED + "{{ n }}",
    DOUBLED + "{{ [n] }}",
    DOUBLED + "{{ n.x | replace('a', 'b') }}",
    DOUBLED.replace("[n.x, n.x]", "(n.x, n.x)") + "{{ {n.x: 1} }}",
    DOUBLED.replace("[n.x, n.x]", "(n.x, n.x)") + "{{ {}[n.x] }}",
    DOUBLED.replace("[n.x, n.x]", "(n.x, n.x)") + "{{ dict([(n.x, 1)]) }}",
    "".join(f"{{% set x{k + 1} = [x{k}, x{k}] %}}" for k in range(1, 40)).join(
        ("{% set x1 = [1] %}", "{{ x40 | tojson }}")
    ),
    "{{ range(9999) | map('list', 'ab') | list | length }}{{ [[1] * 999] * 9999 | sum(start=[]) }}",
    "{{ ([[1]] * 30000) | sum(start=[]) | length }}",
    "{% for i in range(999) %}{{ range(99999) | sort | first }}{% endfor %}",
    "{% for i in range(999) %}{{ (q * 9999) | list | sort | first }}{% endfor %}",
    "{% set n = namespace(a=[1]) %}{% for i in range(99) %}{% set n.a = (n.a + n.a) | sort %}{% endfor %}",
    "{% set n = namespace(a=q) %}{% for i in range(60) %}{% set x %}{{ n.a }}{{ n.a }}{% endset %}{% set n.a = x %}{% endfor %}",
    "{% macro f(x) %}{{ x }}{{ x }}{% endmacro %}{% set n = namespace(a=q) %}{% for i in range(60) %}{% set n.a = f(n.a) %}{% endfor %}",
    "{% set x %}{% for i in range(9999) %}" + "y" * 20000 + "{% endfor %}{% endset %}",
    "{% for i in range(99999) %}" + "{% set z = 1 %}" * 2000 + "{% endfor %}",
    "{% macro f() %}"
    + "{% set z = 1 %}" * 2000
    + "{% endmacro %}{% for i in range(49999) %}{% set z = f() %}{% endfor %}",
    "{% for a in [1] recursive %}{% if loop.depth < 9 %}{{ loop(range(99999)) }}{% endif %}{% endfor %}",
    "{{ ('x' * 9999).translate({120: 'y' * 99999}) | length }}",
    "{% for i in range(99) %}{{ ('你' * 99999).encode('punycode') | length }}{% endfor %}",
    "{{ ('<!---->' * 99999) | striptags | length }}",
    "{{ ('x' * 999999) | wordwrap(1) | length }}",
    "{% set n = namespace(a='x' * 9999999) %}{% for i in range(99999) %}{% set z = n.a[::-1] %}{% endfor %}",
    "{% set n = namespace(a='x' * 999999) %}{% for i in range(99999) %}{% set z = n.a.find('y') %}{% endfor %}",
    "{% set n = namespace(a='x' * 999999) %}{% for i in range(99999) %}{% set z = 'y' in n.a %}{% endfor %}",
    "{% set n = namespace(a='x' * 999999) %}{% for i in range(99999) %}{% set z = n.a | upper %}{% endfor %}",
]

HARMLESS = [
    ("{{ '%05d|%s' | format(n, q) }}", "1000000000000|What is 7*7?"),
    ("{{ '%5.1f%%' % 12.345 }}", " 12.3%"),
    ("{{ '{:>8}|{}'.format(q[:4], n) }}", "    What|1000000000000"),
    ("{{ q | replace('7', '8') | center(16) }}", "  What is 8*8?  "),
    ("{{ tags | join(', ') | indent(2) }}", "a, b"),
    ("{{ tags | map('upper') | join(', ') }} {{ '+'.join(tags | map('upper')) }}", "A, B A+B"),
    ("{{ '{{\"n\": {0}, \"big 999999\": {1:.2f}}}'.format(n, price) }}", '{"n": 1000000000000, "big 999999": 1.50}'),
    ("{{ 'order 999999999: %(n)d, 5%%' % {'n': number} }}", "order 999999999: 3, 5%"),
    ("{{ q.replace('7', '8' * 9) | length }} {{ 2 ** 10 }} {{ '=' * (q | length) }}", "28 1024 ============"),
    ("{{ [1, 2] + [3] }} {{ 1 + 2 }} {{ 'a' + 'b' ~ 'c' }}", "[1, 2, 3] 3 abc"),
    ("{{ {'a': 1} | tojson(indent=2) }}", '{\n  "a": 1\n}'),
    ("{{ range(5) | batch(2) | list }}", "[[0, 1], [2, 3], [4]]"),
    ("{% if 'a' ~ q == 'a' + q %}{{ ('x' ~ (q ~ '!')) | upper }}{% endif %}", "XWHAT IS 7*7?!"),
]  # fmt: skip


LONG = "a" * 300_000
HOSTILE = [
    pytest.param("{{ a | center(b) }}", {"a": "x", "b": 10**9}, "width", id="center-filter"),
    pytest.param("{{ a.center(b) }}", {"a": "x", "b": 10**9}, "width", id="center-method"),
    pytest.param("{{ a.ljust(b | int) }}", {"a": "x", "b": "999999999"}, "width", id="width-from-text"),
    pytest.param("{{ a | indent(width=b) }}", {"a": "x", "b": 10**9}, "width", id="indent"),
    pytest.param("{{ a | indent(b) }}", {"a": "\n" * 300_000, "b": 9_999}, "too many", id="many-lines-indented"),
    pytest.param("{{ a | indent(b) }}", {"a": "\n" * 99_999, "b": "x" * 99_999}, "too many", id="indented-by-a-text"),
    pytest.param("{{ a | tojson(indent=b) }}", {"a": ["x"] * 9_999, "b": "x" * 99_999}, "too many", id="json-indented-by-a-text"),
    pytest.param("{{ a.expandtabs(b) | length }}", {"a": "\t" * 300_000, "b": 9_999}, "too many", id="many-tabs"),
    pytest.param("{{ a | tojson(indent=b) }}", {"a": ["x"] * 99_999, "b": 9_999}, "too many", id="indented-json"),
    pytest.param("{{ a | slice(b) | list }}", {"a": "x", "b": 10**9}, "width", id="slices"),
    pytest.param("{{ a | batch(b, '-') | list }}", {"a": "x", "b": 10**9}, "width", id="batch-filled-up"),
    pytest.param("{{ a | round(b, 'ceil') }}", {"a": 1.5, "b": 10**9}, "width", id="digits-of-a-rounding"),
    pytest.param("{{ 10 ** b }}", {"b": 10**9}, "exponent", id="power"),
    pytest.param("{{ (9 ** b) ** b }}", {"b": 9_999}, "too many", id="power-of-a-power"),
    pytest.param("{{ '-' * b }}", {"b": 10**12}, "too many", id="repeated-text"),
    pytest.param("{{ b * [1] }}", {"b": 10**12}, "too many", id="repeated-list"),
    pytest.param("{% for i in range(99999) %}{{ ('xx' * b) ~ ('x' * a)[:1] }}{% endfor %}", {"a": 10**5, "b": -(10**9)}, "too many", id="negative-numbers-buy-nothing"),
    pytest.param("{{ '%*d' % (b, 1) }}", {"b": 10**9}, "width from a value", id="percent-star"),
    pytest.param("{{ '{:{}}'.format(1, b) }}", {"b": 9}, "width from a value", id="nested-format"),
    pytest.param("{{ a % 1 }}", {"a": "%(x)999999999d"}, "width", id="cell-as-percent-format"),
    pytest.param("{{ a % {'((k)k)': 1} }}", {"a": "%((k)k)999999999d"}, "width", id="percent-key-with-parentheses"),
    pytest.param("{{ a % 1 }}", {"a": "%0000000000000999999999d"}, "width", id="width-with-zeros"),
    pytest.param("{{ a.format(1) }}", {"a": "{:" + "9" * 99_999 + "}"}, "failed", id="width-of-many-digits"),
    pytest.param("{{ a | format(1) }}", {"a": "%.999999999f"}, "width", id="cell-as-filter-format"),
    pytest.param("{{ a.format(1) }}", {"a": "{0:999999999}"}, "width", id="cell-as-format"),
    pytest.param("{{ a.format(1) }}", {"a": "{0:9999}" * 30_000}, "too many", id="many-widths"),
    pytest.param("{{ a.format(b) }}", {"a": "{0}" * 30_000, "b": LONG}, "too many", id="one-text-many-times"),
    pytest.param("{{ a.format(x=b) }}", {"a": "{x}" * 30_000, "b": LONG}, "too many", id="one-named-text-many-times"),
    pytest.param("{{ a | replace(b, a) }}", {"a": LONG, "b": ""}, "too many", id="replace-nothing"),
    pytest.param("{{ a.replace(b, a) }}", {"a": LONG, "b": "a"}, "too many", id="replace-method"),
    pytest.param("{{ b | join(a) }}", {"a": LONG, "b": ["x"] * 99_999}, "too many", id="long-separator"),
    pytest.param("{{ a.join(b) }}", {"a": LONG, "b": ["x"] * 99_999}, "too many", id="long-separator-method"),
    pytest.param("{{ b | map('upper') | join(a) }}", {"a": LONG, "b": ["x"] * 99_999}, "steps", id="generator-joined"),
    pytest.param("{% for i in range(b) %}x{% endfor %}", {"b": 10**9}, "Overflow", id="range"),
    pytest.param("{% for i in range(b) %}{% for j in range(b) %}{% endfor %}{% endfor %}", {"b": 99_999}, "steps", id="nested-loops"),
    pytest.param("{% for t in a %}x{% endfor %}", {"a": ["x"] * 200_000}, "steps", id="long-list"),
    pytest.param("{% for t in b %}{{ a }}{% endfor %}", {"a": LONG, "b": ["x"] * 9}, "text is longer", id="long-output"),
    pytest.param("{% set n = namespace(x='') %}{% for t in b %}{% set n.x = n.x ~ t %}{% endfor %}", {"b": ["x" * 99] * 99_999}, "too many", id="joined-in-a-loop"),
    pytest.param("{% set n = namespace(x='') %}{% for t in b %}{% set n.x = n.x + t %}{% endfor %}", {"b": ["x" * 99] * 99_999}, "too many", id="added-in-a-loop"),
]  # fmt: skip
"""A template that works for ordinary rows, a row that makes it endless or huge, and a word of the failure."""


@pytest.mark.timing
@pytest.mark.parametrize(("source", "fields", "word"), HOSTILE)
def test_a_hostile_row_fails_within_a_second_and_without_much_memory(
    source: str, fields: dict[str, object], word: str
) -> None:
    template = Template(source, "prompt.user")
    start = time.process_time()
    outcome = template.render(fields)
    seconds = time.process_time() - start
    tracemalloc.start()  # it slows down the row: not while the time is taken
    template.render(fields)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(outcome, Failure)
    assert outcome.code == "template_error"
    assert word in outcome.message
    assert seconds < 2  # a second on most machines
    assert peak < 300e6


@pytest.mark.parametrize(("source", "text"), RENDERED)
def test_columns_are_filled_in(source: str, text: str) -> None:
    assert Template(source, "prompt.user").render(FIELDS) == text


@pytest.mark.parametrize("source", NULLS)
def test_a_null_column_is_never_rendered_as_none(source: str) -> None:
    outcome = Template("a\n" + source, "prompt.user").render(FIELDS)
    assert outcome == Failure(
        "prompt_null",
        "prompt.user, line 2: column 'null' is null; give it another value with `default`",
    )


@pytest.mark.parametrize(("source", "words"), FAILURES)
def test_the_error_of_a_failing_template_has_place_and_cause(source: str, words: str) -> None:
    outcome = Template("a\n\n" + source, "prompt.system").render(FIELDS)
    assert isinstance(outcome, Failure)
    assert outcome.code == "template_error"
    assert outcome.message.startswith("prompt.system, line 3: ")
    assert words in outcome.message
    assert "row-text" not in outcome.message


def largest_memory() -> int:
    """The largest resident memory of this process so far, in bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.timing
@pytest.mark.parametrize("source", BOMBS)
def test_a_template_bomb_always_ends_soon(source: str) -> None:
    start, before = time.process_time(), largest_memory()
    template = Template(source, "prompt.user")  # without columns, it is rendered here
    outcome = template.render(FIELDS)
    seconds, grown = time.process_time() - start, largest_memory() - before
    assert isinstance(outcome, Failure)
    assert seconds < 5  # on a loaded machine; without limits they run for minutes
    assert grown < 400e6
    assert template.render(FIELDS) == outcome
    assert Template("{{ q }}", "prompt.user").render(FIELDS) == FIELDS["q"]


@pytest.mark.parametrize(("source", "text"), HARMLESS)
def test_harmless_templates_that_resemble_bombs_are_rendered(source: str, text: str) -> None:
    assert Template(source, "prompt.user").render(FIELDS) == text


def test_steps_are_counted_per_row() -> None:
    template = Template(
        "{% for i in range(number * 30000) %}{% endfor %}{{ number }}", "prompt.user"
    )
    assert [template.render({"number": 3}) for _ in range(5)] == ["3"] * 5


@pytest.mark.parametrize("text", ["{{ q }}", "{% for x in y %}", "{{ 7 * 7 }}", "{# no #}", "{{"])
def test_cells_are_not_rendered_as_templates(text: str) -> None:
    assert Template("<{{ q }}>", "prompt.user").render({"q": text}) == f"<{text}>"


@pytest.mark.parametrize("source", ["{{ q | random }}", "{{ lipsum() }}"])
def test_nothing_random(source: str) -> None:
    try:
        outcome = Template(source, "prompt.user").render({"q": "abc", "lipsum": None})
    except InvalidTemplateError:
        return
    assert isinstance(outcome, Failure)


@pytest.mark.parametrize(
    ("source", "line", "words"),
    [
        ("a\n{{ q }", 2, "unexpected"),
        ("{{ q | nofilter }}", 1, "nofilter"),
        ("\n\n{% include 'x' %}", 3, "include"),
        ("{% extends 'x' %}", 1, "extends"),
        ("{% if q %}", 1, "endif"),
        ("{{ " + "(" * 5000 + ")" * 5000 + " }}", 1, "nested"),
    ],
)  # fmt: skip
def test_invalid_templates(source: str, line: int, words: str) -> None:
    with pytest.raises(InvalidTemplateError) as caught:
        Template(source, "prompt.user")
    assert caught.value.line == line
    assert words in caught.value.message


def test_columns_are_those_that_the_template_reads() -> None:
    source = (
        "{{ b }}{% set c = a %}{{ c }}{% for i in range(3) %}{{ i }}{{ b }}{% endfor %}{{ 题目 }}"
    )
    assert Template(source, "prompt.user").columns == ("b", "a", "题目")


@pytest.mark.timing
@pytest.mark.parametrize("source", SLOW)
def test_a_signal_is_handled_while_a_long_template_is_rendered(source: str) -> None:
    """The handler of SIGTERM only sets a flag: it must run soon, whatever the template does.

    Seconds of processor time: other processes may hold the machine for longer.
    """
    ticks = [time.process_time()]
    before = signal.signal(signal.SIGALRM, lambda *_: ticks.append(time.process_time()))
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    try:
        found = Template(source, "prompt.user").render(FIELDS)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    ticks.append(time.process_time())
    assert isinstance(found, Failure)
    assert len(ticks) > 3, "the template is not long"
    assert max(later - earlier for earlier, later in pairwise(ticks)) < 2
