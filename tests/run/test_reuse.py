"""`--incremental-from`: the output is that of a full run, but unchanged rows are not generated."""

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
from batchgen.prompts.prepare import Prepared, Preparer
from batchgen.records import Row
from batchgen.run.plan import plan
from batchgen.run.result import RunResult
from batchgen.run.reuse import LATEST, ReuseCounts
from batchgen.run.run import run
from batchgen.state.run_folder import RunFolder
from batchgen.storage.failpoints import REUSE_POINTS, VARIABLE
from tests.reporters import RecordingReporter
from tests.soak.harness import Spawner

MakeJob = Callable[..., Path]
OF_THE_RUN = ("run_id", "created_at")
"""The columns in which an incremental run differs from a full one."""


def rows(*ids: str, changed: Sequence[str] = ()) -> list[dict[str, Any]]:
    return [{"id": i, "q": f"about {i}" + ("!" if i in changed else ""), "note": i} for i in ids]


@pytest.fixture
def make_run_job(make_job: MakeJob) -> Callable[..., LoadedJob]:
    """A job with its own rows, folder and overrides."""

    def load(name: str, given: Sequence[dict[str, Any]], *sets: str) -> LoadedJob:
        path = make_job(given, batching={"part_rows": 3}, run={"max_error_rate": 1})
        return load_job(path, overrides=[f"output.path={name}", *sets])

    return load


def answered(result: RunResult) -> pl.DataFrame:
    return result.frame().drop(OF_THE_RUN)


def test_unchanged_rows_are_reused_at_any_position(make_run_job: Callable[..., LoadedJob]) -> None:
    first = run(make_run_job("mon", rows("a", "b", "c", "d", "e")))
    job = make_run_job("tue", rows("e", "x", "c", "a", "b", changed=["c"]))
    second = run(job, incremental_from=first.folder.path)
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
        answered(run(make_run_job("full", rows("e", "x", "c", "a", "b", changed=["c"]))))
    )


def test_manifest_and_summary_count_reused_generated_and_failed_rows(
    make_run_job: Callable[..., LoadedJob], capsys: pytest.CaptureFixture[str]
) -> None:
    first = run(make_run_job("mon", rows("a", "b", "c")))
    job = str(make_run_job("tue", rows("a", "b", "d", "e")).file)
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
    assert run(make_run_job("tue", rows("a", "b", "d", "e"))).incremental == ReuseCounts(**counts)
    assert run(make_run_job("alone", rows("a"))).incremental is None


def test_a_chain_of_runs_keeps_the_id_of_the_run_that_generated_each_answer(
    make_run_job: Callable[..., LoadedJob],
) -> None:
    first = run(make_run_job("mon", rows("a", "b")))
    second = run(make_run_job("tue", rows("a", "b", "c")), incremental_from=first.folder.path)
    third = run(make_run_job("wed", rows("a", "c", "d")), incremental_from=second.folder.path)
    assert third.frame()["run_id"].to_list() == [first.run_id, second.run_id, third.run_id]
    assert third.incremental == ReuseCounts(second.run_id, reused=2, generated=1, dropped=1)


def test_failed_and_skipped_rows_are_generated_again(
    make_run_job: Callable[..., LoadedJob],
) -> None:
    given = [*rows("a"), {"id": "b", "q": "", "note": "b"}]
    first = run(make_run_job("mon", given))
    again = run(make_run_job("tue", given), incremental_from=first.folder.path)
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
def test_only_answers_with_equal_settings_are_reused(
    make_run_job: Callable[..., LoadedJob], sets: list[str], reused: int
) -> None:
    """From a run with these settings to one without them, and back: each output is that of a full run."""
    given = rows("a", "b", "c")
    for name, before, now in (("to", [], sets), ("back", sets, [])):
        first = run(make_run_job(f"{name}-1", given, *before))
        second = run(make_run_job(f"{name}-2", given, *now), incremental_from=first.folder.path)
        full = run(make_run_job(f"{name}-full", given, *now))
        assert second.incremental is not None
        assert second.incremental.reused == reused
        kept = [c for c in full.frame().columns if not c.endswith(OF_THE_RUN)]
        assert second.frame().select(kept).equals(full.frame().select(kept))


def test_if_no_answer_fits_the_reason_is_reported(make_run_job: Callable[..., LoadedJob]) -> None:
    messages: list[str] = []
    first = run(make_run_job("mon", rows("a")))
    job = make_run_job("tue", rows("a"), "decoding.max_new_tokens=9")
    run(job, incremental_from=first.folder.path, reporter=RecordingReporter(messages))
    assert any(
        "all rows are generated: decoding.max_new_tokens was 256, is 9" in t for t in messages
    )


def test_samples_are_reused_one_by_one(make_run_job: Callable[..., LoadedJob]) -> None:
    sampled = ("decoding={num_return_sequences: 3, temperature: 1.0}",)
    first = run(make_run_job("mon", rows("a", "b"), *sampled))
    second = run(make_run_job("tue", rows("b", "c"), *sampled), incremental_from=first.folder.path)
    assert second.incremental == ReuseCounts(first.run_id, reused=3, generated=3, dropped=3)
    assert answered(second).equals(answered(run(make_run_job("full", rows("b", "c"), *sampled))))


def test_without_ids_the_row_number_is_the_id(make_run_job: Callable[..., LoadedJob]) -> None:
    plain = [{"q": "one"}, {"q": "two"}]
    first = run(make_run_job("mon", plain))
    second = run(make_run_job("tue", [{"q": "new"}, *plain]), incremental_from=first.folder.path)
    assert second.incremental == ReuseCounts(first.run_id, reused=0, generated=3, dropped=0)


class Counted:
    """Opens the echo engine and counts its requests."""

    def __init__(self) -> None:
        self.requests = 0

    def __call__(self, *given: Any, **options: Any) -> Any:
        opened = open_engine(*given, **options)
        assert isinstance(opened, EchoEngine)
        generate = opened.generate

        def counting(requests: Any) -> Any:
            def seen() -> Any:
                for request in requests:
                    self.requests += 1
                    yield request

            return generate(seen())

        opened.generate = counting  # type: ignore[method-assign]
        return opened


def test_the_engine_generates_only_the_other_rows(make_run_job: Callable[..., LoadedJob]) -> None:
    first = run(make_run_job("mon", rows(*"abcdefgh")))
    counted = Counted()
    run(make_run_job("tue", rows(*"abcdefxy")), incremental_from=first.folder.path, opener=counted)
    assert counted.requests == 2


@pytest.mark.parametrize("looks", [0, 1, 2])
def test_a_stopped_incremental_run_resumes_without_the_option(
    make_run_job: Callable[..., LoadedJob], looks: int
) -> None:
    first = run(make_run_job("mon", rows(*"abcdefgh")))
    given = rows(*"hgxfeydcz", changed=["e"])
    left = iter(range(looks))
    stopped = run(
        make_run_job("tue", given),
        incremental_from=first.folder.path,
        stop=lambda: next(left, None) is None,
    )
    assert stopped.outcome == "stopped"
    resumed = run(make_run_job("tue", given))
    assert resumed.incremental == ReuseCounts(first.run_id, reused=5, generated=4, dropped=2)
    assert answered(resumed).equals(answered(run(make_run_job("full", given))))


def test_a_link_in_place_of_the_note_on_the_earlier_run_is_named(
    make_run_job: Callable[..., LoadedJob],
) -> None:
    first = run(make_run_job("mon", rows(*"abcd")))
    stopped = run(
        make_run_job("tue", rows(*"abce")), incremental_from=first.folder.path, stop=lambda: True
    )
    stopped.folder.incremental.unlink()
    stopped.folder.incremental.symlink_to("nowhere")
    with pytest.raises(StateError, match=r"incremental\.json is a link; expected a file"):
        run(make_run_job("tue", rows(*"abce")))


def test_if_the_earlier_run_was_deleted_all_other_rows_are_generated(
    make_run_job: Callable[..., LoadedJob],
) -> None:
    first = run(make_run_job("mon", rows(*"abcdef")))
    stopped = run(
        make_run_job("tue", rows(*"xabcde")), incremental_from=first.folder.path, stop=lambda: True
    )
    assert stopped.outcome == "stopped"
    first.folder.path.rename(first.folder.path.with_name("moved"))
    messages: list[str] = []
    resumed = run(make_run_job("tue", rows(*"xabcde")), reporter=RecordingReporter(messages))
    assert any("nothing more is reused" in text for text in messages)
    assert answered(resumed).equals(answered(run(make_run_job("full", rows(*"xabcde")))))


def test_fresh_in_the_same_folder_reuses_the_previous_run(
    make_run_job: Callable[..., LoadedJob],
) -> None:
    first = run(make_run_job("out", rows("a", "b")))
    with pytest.raises(UsageError, match="is the folder that this run writes to"):
        run(
            make_run_job("out", rows("a", "b"), "name=x"),
            incremental_from=first.folder.path,
            start="retry-errors",
        )
    second = run(
        make_run_job("out", rows("b", "c")), incremental_from=first.folder.path, start="fresh"
    )
    assert second.incremental == ReuseCounts(first.run_id, reused=1, generated=1, dropped=1)


def test_a_damaged_or_unfinished_earlier_run_is_rejected(
    make_run_job: Callable[..., LoadedJob],
) -> None:
    first = run(make_run_job("mon", rows("a", "b")))
    stopped = run(make_run_job("tue", rows("a", "b")), stop=lambda: True)
    with pytest.raises(UsageError, match="not the folder of a complete run"):
        run(make_run_job("wed", rows("a")), incremental_from=stopped.folder.path)
    content = bytearray(first.folder.responses.read_bytes())
    content[len(content) // 3] ^= 1
    first.folder.responses.write_bytes(content)
    with pytest.raises(StateError, match=r"responses\.parquet"):
        run(make_run_job("wed", rows("a")), incremental_from=first.folder.path)


def test_a_run_reuses_only_one_earlier_run(make_run_job: Callable[..., LoadedJob]) -> None:
    first, second = (
        run(make_run_job("mon", rows("a", "b"))),
        run(make_run_job("tue", rows("a", "b"))),
    )
    run(make_run_job("wed", rows(*"cdef")), incremental_from=first.folder.path, stop=lambda: True)
    with pytest.raises(BatchgenError, match=f"already reuses answers of the run {first.run_id}"):
        run(make_run_job("wed", rows(*"cdef")), incremental_from=second.folder.path)


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the rows that are rendered and tokenized."""
    ids: list[str] = []
    prepare = Preparer.prepare

    def counting(self: Preparer, given: Sequence[Row], check: Callable[[], None]) -> list[Prepared]:
        ids.extend(row.id for row in given)
        return prepare(self, given, check)

    monkeypatch.setattr(Preparer, "prepare", counting)
    return ids


TYPED = "prompt.user={{ q is string }} {{ q }}"
LIMIT = "decoding.columns={max_new_tokens: n}"
IDS_ONLY = "prompt.user=about {{ id }}"


@pytest.mark.parametrize(
    ("before", "now", "sets", "reused", "rendered"),
    [
        pytest.param(rows(*"abcd"), rows(*"dcba"), [], 4, "", id="all unchanged"),
        pytest.param(rows(*"abcd"), rows(*"xabcd", changed="c"), [], 3, "xc", id="some changed"),
        pytest.param(rows(*"ab"), [row | {"note": "z"} for row in rows(*"ab")], [], 2, "", id="another column"),
        pytest.param(rows(*"ab"), rows(*"ab"), ["output.keep_columns=[note]"], 2, "ab", id="cells not published"),
        pytest.param(rows(*"ab"), rows(*"ab"), [IDS_ONLY], 2, "", id="the id is in the answer"),
        pytest.param([{"id": "a", "q": 1}, {"id": "b", "q": "x"}], [{"id": "a", "q": "1"}, {"id": "b", "q": "x"}], [TYPED], 1, "ab", id="a number that was published as text"),
        pytest.param([{"id": "a", "q": "1"}, {"id": "b", "q": "x"}], [{"id": "a", "q": 1}, {"id": "b", "q": "x"}], [TYPED], 1, "ab", id="a text that is a number now"),
        pytest.param([{"id": "a", "q": 0.0}], [{"id": "a", "q": -0.0}], [], 0, "a", id="zeros"),
        pytest.param([{"id": "a", "q": "x", "n": 5}, {"id": "b", "q": "x", "n": 5}], [{"id": "a", "q": "x", "n": 6}, {"id": "b", "q": "x", "n": 5}], [LIMIT], 1, "a", id="settings of the row"),
        pytest.param([{"id": "a", "q": "x", "p": "y"}], [{"id": "a", "q": "x", "p": "z"}], ["prompt={user: null}", "input.columns.prompt=p"], 0, "a", id="prompt column"),
        pytest.param(rows(*"ab"), rows(*"ab"), ["redact.entities=[email]"], 2, "", id="redaction"),
        pytest.param([{"id": "a", "q": "to a@b.org"}], [{"id": "a", "q": "to c@d.org"}], ["redact.entities=[email]"], 1, "", id="equal after redaction"),
        pytest.param([{"id": "a", "q": {"x": 1}}], [{"id": "a", "q": {"x": 1}}], [], 1, "a", id="nested cells of JSON lines"),
        pytest.param([{"id": "a", "q": ""}, {"id": "b", "q": "x"}], [{"id": "a", "q": ""}, {"id": "b", "q": "x"}], [], 1, "a", id="failed rows"),
        pytest.param(rows(*"abcdef"), rows(*"fedcba"), ["decoding={num_return_sequences: 3, temperature: 1.0}"], 18, "", id="samples"),
    ],
)  # fmt: skip
def test_only_rows_that_may_have_changed_are_rendered(  # a table
    make_run_job: Callable[..., LoadedJob],
    prepared: list[str],
    before: Sequence[dict[str, Any]],
    now: Sequence[dict[str, Any]],
    sets: list[str],
    reused: int,
    rendered: str,
) -> None:
    first = run(make_run_job("mon", before, *sets))
    prepared.clear()
    second = run(make_run_job("tue", now, *sets), incremental_from=first.folder.path)
    assert prepared == [*rendered]
    assert second.incremental is not None
    assert second.incremental.reused == reused
    assert answered(second).equals(answered(run(make_run_job("full", now, *sets))))


def test_a_part_whose_only_new_row_fails_does_not_stop_the_run(
    make_run_job: Callable[..., LoadedJob],
) -> None:
    first = run(make_run_job("mon", rows(*"ab")))
    given = [*rows(*"ab"), {"id": "c", "q": "", "note": "c"}, *rows(*"de")]
    second = run(make_run_job("tue", given), incremental_from=first.folder.path)
    assert second.outcome == "done"
    assert second.incremental == ReuseCounts(first.run_id, reused=2, generated=3, dropped=0)


def test_a_stop_is_noticed_while_all_rows_are_reused(
    make_run_job: Callable[..., LoadedJob],
) -> None:
    first = run(make_run_job("mon", rows(*"abcdefgh")))
    stopped = run(
        make_run_job("tue", rows(*"abcdefgh")),
        incremental_from=first.folder.path,
        stop=lambda: True,
    )
    assert stopped.outcome == "stopped"
    assert run(make_run_job("tue", rows(*"abcdefgh"))).incremental == ReuseCounts(
        first.run_id, reused=8, generated=0, dropped=0
    )


CELLS = st.dictionaries(
    st.sampled_from("abcdef"),
    st.sampled_from([1, "1", 1.0, True, None, "x", "", 0.0, -0.0, {"k": 1}, {"k": None}, {}, [1]]),
    min_size=1,
)


@pytest.mark.soak
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(before=CELLS, now=CELLS)
def test_an_incremental_run_equals_a_full_run_for_any_cells(
    make_run_job: Callable[..., LoadedJob], before: dict[str, Any], now: dict[str, Any]
) -> None:
    turn = next(TURNS)
    shows = "prompt.user={{ q is string }} {{ q is mapping }} {{ q }}"
    given = [[{"id": i, "q": q, "note": i} for i, q in cells.items()] for cells in (before, now)]
    first = run(make_run_job(f"{turn}-1", given[0], shows))
    second = run(make_run_job(f"{turn}-2", given[1], shows), incremental_from=first.folder.path)
    assert answered(second).equals(answered(run(make_run_job(f"{turn}-3", given[1], shows))))


TURNS = itertools.count()
IDS = st.lists(st.sampled_from("abcdefghij"), unique=True, min_size=1, max_size=10)


@pytest.mark.soak
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(before=IDS, now=IDS, changed=st.sets(st.sampled_from("abcdefghij")))
def test_an_incremental_run_equals_a_full_run_for_any_change_of_rows(
    make_run_job: Callable[..., LoadedJob], before: list[str], now: list[str], changed: set[str]
) -> None:
    turn = next(TURNS)
    first = run(make_run_job(f"{turn}-1", rows(*before)))
    given = rows(*now, changed=sorted(changed))
    second = run(make_run_job(f"{turn}-2", given), incremental_from=first.folder.path)
    same = (set(before) & set(now)) - changed
    assert second.incremental == ReuseCounts(
        first.run_id, len(same), len(now) - len(same), len(set(before) - set(now))
    )
    assert answered(second).equals(answered(run(make_run_job(f"{turn}-3", given))))


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
    make_run_job: Callable[..., LoadedJob], spawner: Spawner, point: str
) -> None:
    first = run(make_run_job("mon", rows(*"abcdefgh")))
    given = rows(*"hgxfeydcz", changed=["e"])
    job = make_run_job("tue", given)
    command = ["run", str(job.file), "-o", job.job.output.path]
    command += ["--incremental-from", str(first.folder.path)]
    ended = spawner.run(command, env={VARIABLE: point})
    assert ended.killed, ended.output
    assert spawner.run(command).code == 0
    finished = run(job)
    assert finished.outcome == "already complete"
    assert finished.incremental == ReuseCounts(first.run_id, reused=5, generated=4, dropped=2)
    assert answered(finished).equals(answered(run(make_run_job("full", given))))


@pytest.mark.slow
def test_answers_of_a_model_are_those_of_a_full_run(
    make_run_job: Callable[..., LoadedJob], write_model: Callable[..., Path], tmp_path: Path
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
    first = run(make_run_job("mon", rows(*"abcdef"), *model))
    given = rows(*"fxebda", changed=["b"])
    second = run(make_run_job("tue", given, *model), incremental_from=first.folder.path)
    assert second.incremental == ReuseCounts(first.run_id, reused=4, generated=2, dropped=1)
    assert answered(second).equals(answered(run(make_run_job("full", given, *model))))


def test_a_gated_run_in_the_same_folder_reuses_the_published_answers(
    make_run_job: Callable[..., LoadedJob],
) -> None:
    gated = ("output.publish=gated", "evaluate={reference: note, metrics: [exact]}")
    first = run(make_run_job("out", rows("a", "b"), *gated))
    second = run(
        make_run_job("out", rows("b", "c"), *gated),
        incremental_from=first.folder.path,
        start="fresh",
    )
    assert second.incremental == ReuseCounts(first.run_id, reused=1, generated=1, dropped=1)
    third = run(make_run_job("out", rows("b", "c", "d"), *gated), start="fresh")
    assert third.incremental is None
    assert third.frame()["run_id"].unique().to_list() == [third.run_id]


def test_latest_is_the_newest_published_run_of_the_job_next_to_the_output(
    make_run_job: Callable[..., LoadedJob],
) -> None:
    messages: list[str] = []
    reporter = RecordingReporter(messages)
    first = run(make_run_job("mon", rows("a", "b")), incremental_from=LATEST, reporter=reporter)
    assert first.incremental is None
    assert any("latest: no published run of job test in" in text for text in messages)
    second = run(make_run_job("tue", rows("a", "b", "c")), incremental_from=LATEST)
    assert second.incremental == ReuseCounts(first.run_id, reused=2, generated=1, dropped=0)
    # None of these is the latest: another job, a trial of fewer rows, and a run that is not complete.
    run(make_run_job("other", rows("x"), "name=other"))
    run(make_run_job("trial", rows("a"), "input.limit=1"))
    run(make_run_job("stopped", rows("a", "y")), stop=lambda: True)
    third = run(make_run_job("wed", rows("a", "c", "d")), incremental_from=LATEST)
    assert third.incremental == ReuseCounts(second.run_id, reused=2, generated=1, dropped=1)


def test_latest_with_fresh_is_the_run_in_the_same_folder(
    make_run_job: Callable[..., LoadedJob],
) -> None:
    first = run(make_run_job("out", rows("a", "b")))
    second = run(make_run_job("out", rows("a", "c")), incremental_from=LATEST, start="fresh")
    assert second.incremental == ReuseCounts(first.run_id, reused=1, generated=1, dropped=1)


def test_a_resumed_run_keeps_its_latest(make_run_job: Callable[..., LoadedJob]) -> None:
    first = run(make_run_job("mon", rows("a", "b")))
    given = rows("a", "b", "c", "d")
    run(make_run_job("tue", given), incremental_from=LATEST, stop=lambda: True)
    run(make_run_job("wed", rows("z")))
    resumed = run(make_run_job("tue", given), incremental_from=LATEST)
    assert resumed.incremental is not None
    assert resumed.incremental.run_id == first.run_id


def test_a_plan_counts_what_would_be_reused(
    make_run_job: Callable[..., LoadedJob], capsys: pytest.CaptureFixture[str]
) -> None:
    first = run(make_run_job("mon", rows("a", "b", "c")))
    loaded = make_run_job("tue", rows("a", "b", "d", changed="b"))
    for named in (first.folder.path, LATEST):
        reuse = plan(loaded, incremental_from=named).reuse
        assert reuse is not None
        assert (reuse.run_id, reuse.reused, reuse.counted) == (first.run_id, 1, 3)
    assert plan(loaded).reuse is None
    assert (
        call(["plan", str(loaded.file), "-s", "output.path=tue", "--incremental-from", "latest"])
        == 0
    )
    printed = capsys.readouterr().out
    assert f"1 of 3 answers from {first.folder.path} (run {first.run_id})" in printed
    assert "run -s output.path=tue --incremental-from latest" in printed.replace(
        f" {loaded.file}", ""
    )


def test_an_earlier_run_that_does_not_exist_leaves_no_run(make_job: MakeJob) -> None:
    loaded = load_job(make_job())
    with pytest.raises(UsageError, match="not the folder of a complete run"):
        run(loaded, incremental_from=Path("nosuch"))
    assert not RunFolder(Path(loaded.job.output.path)).run.exists()
