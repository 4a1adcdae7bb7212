"""`--incremental-from`: the nightly run. Its output is that of a full run; only unchanged rows are not generated."""

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchgen.__main__ import call
from batchgen.engines.echo import EchoEngine
from batchgen.engines.engine_registry import open_engine
from batchgen.errors import BatchgenError, StateError, UsageError
from batchgen.jobfile.load import LoadedJob, load_job
from batchgen.run.result import RunResult
from batchgen.run.reuse import ReuseCounts
from batchgen.run.run import run
from batchgen.storage.failpoints import REUSE_POINTS, VARIABLE
from tests.reporters import RecordingReporter
from tests.soak.harness import Spawner

MakeJob = Callable[..., Path]
OF_THE_RUN = ("run_id", "created_at")
"""The columns in which an incremental run differs from a full one."""


def rows(*ids: str, changed: Sequence[str] = ()) -> list[dict[str, Any]]:
    return [{"id": i, "q": f"about {i}" + ("!" if i in changed else ""), "note": i} for i in ids]


@pytest.fixture
def night(make_job: MakeJob) -> Callable[..., LoadedJob]:
    """The job of one night: other rows, another folder, and what else differs."""

    def load(name: str, given: Sequence[dict[str, Any]], *sets: str) -> LoadedJob:
        path = make_job(given, batching={"part_rows": 3}, run={"max_error_rate": 1})
        return load_job(path, overrides=[f"output.path={name}", *sets])

    return load


def answered(result: RunResult) -> pl.DataFrame:
    return result.frame().drop(OF_THE_RUN)


def test_unchanged_rows_are_taken_over_wherever_they_stand(night: Callable[..., LoadedJob]) -> None:
    first = run(night("mon", rows("a", "b", "c", "d", "e")))
    asked = night("tue", rows("e", "x", "c", "a", "b", changed=["c"]))
    second = run(asked, incremental_from=first.folder.path)
    assert second.incremental == ReuseCounts(first.run_id, reused=3, generated=2, dropped=1)
    frame = second.frame()
    assert frame["run_id"].to_list() == [
        first.run_id if i in "eab" else second.run_id for i in frame["id"]
    ]
    before = dict(first.frame().select("id", "created_at").iter_rows())
    assert all(
        (when == before.get(i)) is (i in "eab")
        for i, when in frame.select("id", "created_at").iter_rows()
    )
    assert answered(second).equals(
        answered(run(night("full", rows("e", "x", "c", "a", "b", changed=["c"]))))
    )


def test_the_manifest_and_the_last_lines_count_all_three(
    night: Callable[..., LoadedJob], capsys: pytest.CaptureFixture[str]
) -> None:
    first = run(night("mon", rows("a", "b", "c")))
    job = str(night("tue", rows("a", "b", "d", "e")).file)
    options = ["-o", str(first.folder.path.with_name("tue")), "--incremental-from"]
    assert call(["run", job, *options, str(first.folder.path), "--json"]) == 0
    out, err = capsys.readouterr()
    counts: dict[str, Any] = {
        "run_id": first.run_id,
        "reused": 2,
        "generated": 2,
        "dropped": 1,
    }
    assert json.loads(out.splitlines()[-1])["incremental"] == counts
    assert f"reused 2 · generated 2 · dropped 1 of run {first.run_id}" in err
    manifest = json.loads((first.folder.path.with_name("tue") / "manifest.json").read_text())
    assert manifest["incremental"] == counts
    assert run(night("tue", rows("a", "b", "d", "e"))).incremental == ReuseCounts(**counts)
    assert run(night("alone", rows("a"))).incremental is None


def test_a_chain_of_nights_keeps_who_generated_what(night: Callable[..., LoadedJob]) -> None:
    first = run(night("mon", rows("a", "b")))
    second = run(night("tue", rows("a", "b", "c")), incremental_from=first.folder.path)
    third = run(night("wed", rows("a", "c", "d")), incremental_from=second.folder.path)
    assert third.frame()["run_id"].to_list() == [first.run_id, second.run_id, third.run_id]
    assert third.incremental == ReuseCounts(second.run_id, reused=2, generated=1, dropped=1)


def test_failed_and_skipped_rows_are_asked_again(night: Callable[..., LoadedJob]) -> None:
    given = [*rows("a"), {"id": "b", "q": "", "note": "b"}]
    first = run(night("mon", given))
    again = run(night("tue", given), incremental_from=first.folder.path)
    assert again.incremental == ReuseCounts(first.run_id, reused=1, generated=1, dropped=0)
    assert again.frame()["error_code"].to_list() == [None, "prompt_empty"]


@pytest.mark.parametrize(
    ("sets", "reused"),
    [
        pytest.param(["decoding.max_new_tokens=9"], 0, id="decoding"),
        pytest.param(["prompt.system=Be short."], 0, id="prompt"),
        pytest.param(["run.seed=2"], 0, id="seed"),
        pytest.param(["output.reasoning=inline"], 0, id="reasoning"),
        pytest.param(["redact.entities=[email]"], 0, id="redaction"),
        pytest.param(["output.prefix=bg_"], 3, id="prefix"),
        pytest.param(["output.keep_columns=[q]"], 3, id="columns"),
        pytest.param(["output.store_prompt=false"], 3, id="prompts not stored"),
        pytest.param(["output.layout=parts"], 3, id="layout"),
        pytest.param(["input.filter=\"id <> 'a'\""], 2, id="filter"),
        pytest.param(["batching.part_rows=1"], 3, id="parts"),
    ],
)
def test_what_decides_an_answer_decides_what_is_reused(
    night: Callable[..., LoadedJob], sets: list[str], reused: int
) -> None:
    """From a run with these settings to the plain one, and back: each output is that of a full run."""
    given = rows("a", "b", "c")
    for name, before, now in (("to", [], sets), ("back", sets, [])):
        first = run(night(f"{name}-1", given, *before))
        second = run(night(f"{name}-2", given, *now), incremental_from=first.folder.path)
        full = run(night(f"{name}-full", given, *now))
        assert second.incremental is not None
        assert second.incremental.reused == reused
        kept = [c for c in full.frame().columns if not c.endswith(OF_THE_RUN)]
        assert second.frame().select(kept).equals(full.frame().select(kept))


def test_nothing_fits_and_the_reason_is_said(night: Callable[..., LoadedJob]) -> None:
    told: list[str] = []
    first = run(night("mon", rows("a")))
    asked = night("tue", rows("a"), "decoding.max_new_tokens=9")
    run(asked, incremental_from=first.folder.path, reporter=RecordingReporter(told))
    assert any("all rows are generated: decoding.max_new_tokens was 256, is 9" in t for t in told)


def test_every_sample_is_its_own(night: Callable[..., LoadedJob]) -> None:
    sampled = ("decoding={num_return_sequences: 3, temperature: 1.0}",)
    first = run(night("mon", rows("a", "b"), *sampled))
    second = run(night("tue", rows("b", "c"), *sampled), incremental_from=first.folder.path)
    assert second.incremental == ReuseCounts(first.run_id, reused=3, generated=3, dropped=3)
    assert answered(second).equals(answered(run(night("full", rows("b", "c"), *sampled))))


def test_without_ids_rows_are_told_by_their_number(night: Callable[..., LoadedJob]) -> None:
    plain = [{"q": "one"}, {"q": "two"}]
    first = run(night("mon", plain))
    second = run(night("tue", [{"q": "new"}, *plain]), incremental_from=first.folder.path)
    assert second.incremental == ReuseCounts(first.run_id, reused=0, generated=3, dropped=0)


class Counted:
    """Opens the echo engine and counts what it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, *given: Any, **options: Any) -> Any:
        opened = open_engine(*given, **options)
        assert isinstance(opened, EchoEngine)
        generate = opened.generate

        def counting(requests: Any) -> Any:
            def seen() -> Any:
                for request in requests:
                    self.asked += 1
                    yield request

            return generate(seen())

        opened.generate = counting  # type: ignore[method-assign]
        return opened


def test_the_engine_is_asked_only_for_the_rest(night: Callable[..., LoadedJob]) -> None:
    first = run(night("mon", rows(*"abcdefgh")))
    counted = Counted()
    run(night("tue", rows(*"abcdefxy")), incremental_from=first.folder.path, opener=counted)
    assert counted.asked == 2


@pytest.mark.parametrize("looks", [0, 1, 2])
def test_a_stopped_incremental_run_goes_on_without_being_told_again(
    night: Callable[..., LoadedJob], looks: int
) -> None:
    first = run(night("mon", rows(*"abcdefgh")))
    given = rows(*"hgxfeydcz", changed=["e"])
    left = iter(range(looks))
    stopped = run(
        night("tue", given),
        incremental_from=first.folder.path,
        stop=lambda: next(left, None) is None,
    )
    assert stopped.outcome == "stopped"
    resumed = run(night("tue", given))
    assert resumed.incremental == ReuseCounts(first.run_id, reused=5, generated=4, dropped=2)
    assert answered(resumed).equals(answered(run(night("full", given))))


def test_an_earlier_run_that_is_gone_meanwhile_costs_only_work(
    night: Callable[..., LoadedJob],
) -> None:
    first = run(night("mon", rows(*"abcdef")))
    stopped = run(
        night("tue", rows(*"xabcde")), incremental_from=first.folder.path, stop=lambda: True
    )
    assert stopped.outcome == "stopped"
    first.folder.path.rename(first.folder.path.with_name("moved"))
    told: list[str] = []
    resumed = run(night("tue", rows(*"xabcde")), reporter=RecordingReporter(told))
    assert any("nothing more is reused" in text for text in told)
    assert answered(resumed).equals(answered(run(night("full", rows(*"xabcde")))))


def test_fresh_in_the_same_folder_reuses_what_was_moved_aside(
    night: Callable[..., LoadedJob],
) -> None:
    first = run(night("out", rows("a", "b")))
    with pytest.raises(UsageError, match="is the folder that this run writes to"):
        run(
            night("out", rows("a", "b"), "name=x"),
            incremental_from=first.folder.path,
            start="retry-errors",
        )
    second = run(night("out", rows("b", "c")), incremental_from=first.folder.path, start="fresh")
    assert second.incremental == ReuseCounts(first.run_id, reused=1, generated=1, dropped=1)


def test_a_damaged_or_unfinished_earlier_run_is_refused(night: Callable[..., LoadedJob]) -> None:
    first = run(night("mon", rows("a", "b")))
    stopped = run(night("tue", rows("a", "b")), stop=lambda: True)
    with pytest.raises(UsageError, match="not the folder of a complete run"):
        run(night("wed", rows("a")), incremental_from=stopped.folder.path)
    content = bytearray(first.folder.responses.read_bytes())
    content[len(content) // 3] ^= 1
    first.folder.responses.write_bytes(content)
    with pytest.raises(StateError, match=r"responses\.parquet"):
        run(night("wed", rows("a")), incremental_from=first.folder.path)


def test_one_run_reuses_one_other(night: Callable[..., LoadedJob]) -> None:
    first, second = run(night("mon", rows("a", "b"))), run(night("tue", rows("a", "b")))
    run(night("wed", rows(*"cdef")), incremental_from=first.folder.path, stop=lambda: True)
    with pytest.raises(BatchgenError, match=f"already reuses answers of the run {first.run_id}"):
        run(night("wed", rows(*"cdef")), incremental_from=second.folder.path)


TURNS = itertools.count()
IDS = st.lists(st.sampled_from("abcdefghij"), unique=True, min_size=1, max_size=10)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(before=IDS, now=IDS, changed=st.sets(st.sampled_from("abcdefghij")))
def test_any_night_after_any_other_is_a_full_run(
    night: Callable[..., LoadedJob], before: list[str], now: list[str], changed: set[str]
) -> None:
    turn = next(TURNS)
    first = run(night(f"{turn}-1", rows(*before)))
    given = rows(*now, changed=sorted(changed))
    second = run(night(f"{turn}-2", given), incremental_from=first.folder.path)
    same = (set(before) & set(now)) - changed
    assert second.incremental == ReuseCounts(
        first.run_id, len(same), len(now) - len(same), len(set(before) - set(now))
    )
    assert answered(second).equals(answered(run(night(f"{turn}-3", given))))


KILLS = (
    *REUSE_POINTS,
    "journal.after_forget",
    "part.after_link:2",
    "publish.half",
    "manifest.half",
)


@pytest.fixture(scope="module")
def spawner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spawner]:
    with Spawner(tmp_path_factory.mktemp("log") / "log") as made:
        yield made


@pytest.mark.parametrize("point", KILLS)
def test_an_incremental_run_survives_kill_9(
    night: Callable[..., LoadedJob], spawner: Spawner, point: str
) -> None:
    first = run(night("mon", rows(*"abcdefgh")))
    given = rows(*"hgxfeydcz", changed=["e"])
    job = night("tue", given)
    command = ["run", str(job.file), "-o", job.job.output.path]
    command += ["--incremental-from", str(first.folder.path)]
    ended = spawner.run(command, env={VARIABLE: point})
    assert ended.killed, ended.said
    assert spawner.run(command).code == 0
    finished = run(job)
    assert finished.outcome == "already complete"
    assert finished.incremental == ReuseCounts(first.run_id, reused=5, generated=4, dropped=2)
    assert answered(finished).equals(answered(run(night("full", given))))


@pytest.mark.slow
def test_answers_of_a_model_are_those_of_a_full_run(
    night: Callable[..., LoadedJob], write_model: Callable[..., Path], tmp_path: Path
) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = write_model(tmp_path / "tiny")
    config = LlamaConfig(
        vocab_size=260,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=128,
        eos_token_id=257,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    model = ("model={engine: transformers, path: ./tiny}", "decoding={max_new_tokens: 8}")
    first = run(night("mon", rows(*"abcdef"), *model))
    given = rows(*"fxebda", changed=["b"])
    second = run(night("tue", given, *model), incremental_from=first.folder.path)
    assert second.incremental == ReuseCounts(first.run_id, reused=4, generated=2, dropped=1)
    assert answered(second).equals(answered(run(night("full", given, *model))))


def test_a_gated_night_in_one_folder_reuses_what_is_published(
    night: Callable[..., LoadedJob],
) -> None:
    gated = ("output.publish=gated", "evaluate={reference: note, metrics: [exact]}")
    first = run(night("out", rows("a", "b"), *gated))
    second = run(
        night("out", rows("b", "c"), *gated), incremental_from=first.folder.path, start="fresh"
    )
    assert second.incremental == ReuseCounts(first.run_id, reused=1, generated=1, dropped=1)
    third = run(night("out", rows("b", "c", "d"), *gated), start="fresh")
    assert third.incremental is None
    assert third.frame()["run_id"].unique().to_list() == [third.run_id]
