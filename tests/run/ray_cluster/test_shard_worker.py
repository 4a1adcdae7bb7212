"""The worker on a node, without a cluster: it starts a process, reports how that ended, and stops it."""

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from batchgen.jobfile.load import load_job
from batchgen.run.ray_cluster.shard_worker import ShardCommand, ShardWorker, WorkerReport
from batchgen.run.run import run
from batchgen.run.shards.merge_shards import NoExecutor
from batchgen.state.run_folder import RunFolder
from batchgen.state.shards.members import members, record_end
from tests.conftest import MakeJob
from tests.engines.openai.fake_server import say, serving, slowly

ROWS = [{"q": f"row {n}"} for n in range(40)]


def begin(job: Path, folder: RunFolder) -> str:
    """Begin a run of which no part is made."""
    return run(load_job(job), executor=NoExecutor(folder)).run_id


def command(job: Path, **changes: object) -> ShardCommand:
    folder = RunFolder(job.parent / "out")
    found: dict[str, object] = {
        "words": ("run", str(job), "--shard", "any", "--json"),
        "working_folder": job.parent,
        "shared": (folder.path, begin(job, folder)),
        "log": job.parent / "logs" / "HOST.log",
    }
    return ShardCommand(**(found | changes))  # type: ignore[arg-type]


def wait_for(condition: Callable[[], object]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, "it does not happen"
        time.sleep(0.02)


@pytest.mark.slow
def test_a_worker_makes_all_parts(make_job: MakeJob) -> None:
    job = make_job(ROWS, batching={"part_rows": 10})
    report = ShardWorker().run(command(job))
    log = job.parent / "logs" / f"{socket.gethostname()}.log"
    assert report == WorkerReport(socket.gethostname(), 0, "", log)
    assert "sealed" in log.read_text()
    assert run(job, executor=NoExecutor(RunFolder(job.parent / "out"))).counts.rows == 40


@pytest.mark.slow
@pytest.mark.parametrize(("harm", "code"), [("stop", -signal.SIGTERM), ("kill", -signal.SIGKILL)])
def test_a_worker_reports_how_its_process_ended(make_job: MakeJob, harm: str, code: int) -> None:
    with serving(slowly(say, 0.3)) as server:
        job = make_job(
            ROWS,
            model={"engine": "openai", "base_url": server.url},
            batching={"part_rows": 10, "max_rows": 1},
        )
        worker, found = ShardWorker(), list[WorkerReport]()
        wanted = command(job)
        thread = threading.Thread(target=lambda: found.append(worker.run(wanted)))
        thread.start()
        wait_for(lambda: any(prompt.startswith("row") for prompt in list(server.seen)))
        if harm == "stop":
            worker.stop()
        else:
            os.kill(worker.place()[1], signal.SIGKILL)
        thread.join(60)
    assert found[0].exit_code == code
    assert found[0].died


def test_a_node_that_does_not_share_the_folders_is_refused(
    make_job: MakeJob, tmp_path: Path
) -> None:
    job = make_job(ROWS[:2])
    elsewhere = ShardWorker().run(command(job, working_folder=tmp_path / "none"))
    assert elsewhere.exit_code == 5
    assert "the working folder" in elsewhere.error
    for run_folder in (tmp_path / "other", job.parent / "out"):
        report = ShardWorker().run(command(job, shared=(run_folder, "another")))
        assert report.exit_code == 5
        assert "expected a folder that all nodes share" in report.error
    assert not (tmp_path / "other").exists(), "nothing is made there"


def test_the_end_of_a_process_on_another_machine_is_recorded(make_job: MakeJob) -> None:
    """Its lock is not seen there, but its parts are free at once."""
    job = make_job(ROWS[:2])
    folder = RunFolder(job.parent / "out")
    begin(job, folder)
    folder.shards.mkdir(mode=0o700)
    for name, pid in (("any-a-0", 7), ("any-a-1", 8)):
        content = {"shard": "any", "host": "a", "pid": pid, "boot": "of another machine"}
        (folder.shards / f"{name}.json").write_text(json.dumps(content))
    record_end(folder, "a", 7)
    record_end(folder, "", 0)
    assert [one.has_ended for one in members(folder)] == [True, False]


@pytest.mark.slow
def test_the_error_of_the_process_is_reported(make_job: MakeJob) -> None:
    job = make_job(ROWS[:2])
    wanted = command(job)
    (job.parent / "rows.jsonl").unlink()
    report = ShardWorker().run(wanted)
    assert (report.exit_code, report.died) == (5, False)
    assert "rows.jsonl" in report.error


@pytest.mark.slow
def test_a_library_that_is_missing_on_a_node_is_in_its_log(make_job: MakeJob) -> None:
    report = ShardWorker(["a_module_that_does_not_exist"]).run(command(make_job(ROWS[:2])))
    assert (report.exit_code, report.died) == (1, False)
    assert "a_module_that_does_not_exist" in report.log.read_text()
