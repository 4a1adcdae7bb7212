import json

import pytest

from batchgen.prompts.templates.columns import column_expression
from batchgen.prompts.templates.sandbox import Template

NAMES = [
    *("range", "dict", "cycler", "self", "loop", "row", "lipsum", "namespace", "joiner", "super"),
    *("caller", "varargs", "kwargs", "题目 1", "user question", "order-no", "2nd", "q.1", "class"),
    *(
        "if",
        "none",
        "True",
        "not",
        'a"b',
        "a\\b",
        "a'b",
        "{{ x }}",
        "",
        " q ",
        "班级（小组）",
        "q\nr",
    ),
    *("ﬁ", "fi", "Ａ", "A", "batchgen_column_0", "context", "environment", "missing", "e\u0301"),
]


@pytest.mark.parametrize("name", NAMES)
def test_a_column_of_any_name_is_read(name: str) -> None:
    source = "".join(f"[{{{{ {column_expression(each)} }}}}]" for each in (name, "other", name))
    template = Template(source, "prompt.user")
    text = template.render({name: "<value>", "other": "-"})
    assert text == "[<value>][-][<value>]"
    assert set(template.columns + template.functions) == {name, "other"}


@pytest.mark.parametrize("name", NAMES)
def test_a_column_is_also_an_item_of_row(name: str) -> None:
    template = Template(f"{{{{ row[{json.dumps(name)}] | upper }}}}", "prompt.user")
    assert template.columns == (name,)
    assert template.render({"row": "no", name: "v"}) == "V"


@pytest.mark.parametrize(
    ("source", "fields", "text"),
    [
        ("{% for i in range(2) %}{{ i }}{% endfor %}", {}, "01"),
        ("{% for i in range(2) %}{{ i }}{{ range }}{% endfor %}", {"range": "r"}, "0r1r"),
        ("{% for c in [5] %}{{ loop.index }}{{ c }}{% endfor %}{{ loop }}", {"loop": "l"}, "15l"),
        ("{% for c in [5] %}{{ row['loop'] }}{% endfor %}", {"loop": "l"}, "l"),
        ("{% set range = 7 %}{{ range }}", {"range": "r"}, "7"),
        ("{% for q in [1] %}{{ q }}{% endfor %}{{ q }}", {"q": "c"}, "1c"),
        ("{% macro f(x) %}{{ x }}{{ q }}{% endmacro %}{{ f(1) }}{{ x }}", {"q": "c", "x": "y"}, "1cy"),
        ("{% set row = {'a': 1} %}{{ row['a'] }}", {}, "1"),
        ("{{ row['a b'] | default('-') }}", {"a b": None}, "-"),
        ("{{ row.x }}", {"row": {"x": 1}}, "1"),
        ("{% set n = namespace(x=1) %}{{ n.x }}{{ namespace }}", {"namespace": "ns"}, "1ns"),
    ],
)  # fmt: skip
def test_columns_win_except_where_the_template_has_its_own_name(
    source: str, fields: dict[str, object], text: str
) -> None:
    assert Template(source, "prompt.user").render(fields) == text


def test_a_function_without_such_a_column_stays_a_function() -> None:
    template = Template("{{ range is callable }}", "prompt.user")
    assert template.columns == ()
    assert template.functions == ("range",)
    assert template.render({}) == "True"
    assert template.render({"range": "3.9-6.1"}) == "False"
