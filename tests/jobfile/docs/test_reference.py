import inspect
import re
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel

from batchgen.engines.engine_registry import ENGINES
from batchgen.job.evaluate import Bins, Gate
from batchgen.job.judge import Judge
from batchgen.job.spec import PromptMessage
from batchgen.jobfile.docs.reference import job_reference
from batchgen.jobfile.load import load_job
from batchgen.jobfile.merge import SYNONYMS
from batchgen.jobfile.messages.expected_types import all_keys, expected_at, section_fields
from batchgen.jobfile.tree import dotted_key
from batchgen.metrics.base import MetricOptions
from batchgen.metrics.registry import METRIC_TYPES

Write = Callable[..., Path]
SUMMARIES = {name: entry.info.summary for name, entry in ENGINES.items()}
PAGE = job_reference(SUMMARIES)
METRIC_SECTIONS: dict[str, type[MetricOptions]] = {
    word: metric.options for word, metric in METRIC_TYPES.items()
}


def rows() -> dict[str, list[str]]:
    """The cells of every row of the tables of keys, by the whole key."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in PAGE.partition("## Keys")[2].partition("## Engines")[0].splitlines():
        if heading := re.fullmatch(r"#{3,} (?:Each item of )?(\S+)", line):
            section = heading[1] + "."
        elif line.startswith("| `"):
            key, *cells = (cell.strip() for cell in line.strip("|").split(" | "))
            found[section + key.strip("| `")] = [cell.strip("|").strip() for cell in cells]
    return found


def test_every_key_has_a_row_that_matches_the_schema() -> None:
    table = rows()
    for path in all_keys():
        expected = expected_at(path)
        assert expected is not None
        if expected.section is None:
            value, _, meaning = table.pop(dotted_key(path))
            assert (value, meaning) == (str(expected), " ".join(expected.description.split()))
            assert meaning
    of_items: dict[str, type[BaseModel]] = {
        "prompt.messages": PromptMessage,
        "evaluate.slices": Bins,
        "evaluate.gates": Gate,
        "evaluate.judges": Judge,
    }
    items = {f"{at}.{key}" for at, section in of_items.items() for key in section.model_fields}
    shared = {f"evaluate.metrics.{key}" for key in MetricOptions.model_fields}
    own = {
        f"evaluate.metrics.{word}.{key}"
        for word, section in METRIC_SECTIONS.items()
        for key in section_fields(section).keys() - MetricOptions.model_fields.keys()
    }
    assert set(table) == {"extends", "vars", "profiles", "$schema", *items, *shared, *own}


def test_every_metric_type_has_a_description() -> None:
    for word, section in METRIC_SECTIONS.items():
        measures = inspect.cleandoc(section.__doc__ or "")
        assert f"##### evaluate.metrics.{word}\n\n{measures}" in PAGE


def test_defaults_are_shown_as_yaml_writes_them() -> None:
    shown = {key: cells[1] for key, cells in rows().items()}
    for key, default in (
        ("name", "required"),
        ("input.path", "required"),
        ("description", ""),
        ("decoding.max_new_tokens", "`256`"),
        ("decoding.logprobs", "`false`"),
        ("decoding.stop_strings", "`[]`"),
        ("decoding.columns", "`{}`"),
        ("batching.memory_fraction", "`0.9`"),
        ("output.prefix", '`""`'),
        ("output.file_mode", "`0600`"),
        ("input.csv.delimiter", "`auto`"),
    ):
        assert shown[key] == default, key


def test_the_first_example_is_a_complete_job(write: Write) -> None:
    example = re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert example is not None
    assert load_job(write(text=example[1])).job.name == "my-job"


def test_every_synonym_is_listed() -> None:
    for synonym, name in SYNONYMS.items():
        assert f"`{synonym}` for `{name}`" in PAGE


def test_the_page_is_plain_markdown() -> None:
    assert PAGE.startswith("# Job files\n")
    assert PAGE.endswith(".\n")
    assert "\n\n\n" not in PAGE
    tables = re.findall(r"(?:^\|.*\n)+", PAGE, re.MULTILINE)
    for table in tables:
        cells = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(cells) == 1, table
