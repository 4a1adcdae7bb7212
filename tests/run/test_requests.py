"""From rows to requests: one for each sample, with the seed of that sample; none for a row that failed."""

from collections.abc import Callable
from pathlib import Path

from batchgen.decoding.rng import row_seed
from batchgen.jobfile.load import load_job
from batchgen.records import Failure
from batchgen.run.requests import PendingRow, RequestBuilder
from batchgen.run.setup import set_up

MakeJob = Callable[..., Path]


def prepared(job: Path) -> tuple[RequestBuilder, list[PendingRow]]:
    setup = set_up(load_job(job))
    return setup.request_builder, list(setup.pending_rows())


def test_each_sample_has_its_own_request_and_seed(make_job: MakeJob) -> None:
    job = make_job(
        [{"id": "a", "q": "one"}, {"id": "b", "q": ""}, {"id": "c", "q": "two"}],
        decoding={"num_return_sequences": 2, "temperature": 1.0},
        run={"seed": 7},
    )
    builder, rows = prepared(job)
    requests = builder.build_requests(rows)
    keys = [(request.index, request.sample) for request in requests]
    assert keys == [(0, 0), (0, 1), (2, 0), (2, 1)]
    assert [request.seed for request in requests] == [
        row_seed(7, id_, sample) for id_ in ("a", "c") for sample in (0, 1)
    ]
    assert len({request.seed for request in requests}) == 4
    for request in requests:
        row = rows[request.index]
        assert request.token_ids == row.token_ids
        assert request.prompt is row.prompt
        assert row.prompt is not None


def test_a_failed_row_keeps_its_reason_and_its_seeds(make_job: MakeJob) -> None:
    _, (row,) = prepared(
        make_job([{"q": ""}], decoding={"num_return_sequences": 2, "temperature": 1.0})
    )
    assert isinstance(row.decoding, Failure)
    assert row.decoding.code == "prompt_empty"
    assert row.seeds == tuple(row_seed(0, "0", sample) for sample in (0, 1))


def test_decoding_columns_change_the_settings_and_the_fingerprint_of_their_row(
    make_job: MakeJob,
) -> None:
    job = make_job(
        [{"q": "x", "most": 3, "id": "a"}, {"q": "x", "most": 4, "id": "a2"}],
        decoding={"columns": {"max_new_tokens": "most"}},
    )
    builder, rows = prepared(job)
    requests = builder.build_requests(rows)
    assert [request.decoding.max_new_tokens for request in requests] == [3, 4]
    assert rows[0].prompt_hash == rows[1].prompt_hash
    assert rows[0].row_fingerprint != rows[1].row_fingerprint


def test_messages_are_kept_only_if_prompts_are_stored(make_job: MakeJob) -> None:
    _, (stored,) = prepared(make_job())
    _, (dropped,) = prepared(make_job(output={"store_prompt": False}))
    assert [message.content for message in stored.messages] == ["hello"]
    assert dropped.messages == ()
    assert dropped.prompt_hash == stored.prompt_hash
