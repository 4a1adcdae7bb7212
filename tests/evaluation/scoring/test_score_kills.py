"""Rescoring, killed at each step of the replacement: the old or the new scores remain, and either command repairs them."""

import json
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
import yaml

from batchgen.errors import StateError
from batchgen.evaluation.comparing.scored_run import open_scored_run
from batchgen.inspection.verify import verify
from batchgen.state.run_folder import RunFolder
from batchgen.storage.failpoints import VARIABLE
from tests.soak.harness import Ended, Spawner, manifest_is_true

POINTS = {
    "file": [
        *(f"publish.half:{n}" for n in (1, 2, 3)),
        *(f"publish.before_sync:{n}" for n in (1, 2, 3)),
        *("release.half:1", "release.before_rename:1", "release.after_rename:1"),
        *(f"publish.before_rename:{n}" for n in (1, 2, 3)),
        *(f"publish.after_rename:{n}" for n in (1, 2, 3)),
        *("manifest.half:1", "manifest.before_rename:1", "manifest.after_rename:1"),
    ],
    "parts": [
        *(f"publish.before_rename:{n}" for n in (1, 2, 3, 5)),
        *(f"publish.after_rename:{n}" for n in (1, 2, 3, 5)),
        *("release.after_rename:1", "manifest.before_rename:1"),
    ],
}
"""By layout, in the order in which scoring comes by: three files, or two and three parts."""
NEW = ("--metric", "repetition", "--metric", "{type: regex, pattern: x, name: exes}")
Files = Mapping[str, bytes]


def files(folder: Path) -> Files:
    """The published tables, byte for byte."""
    paths = [*folder.glob("*.parquet"), *folder.glob("responses/*.parquet")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


class Scored:
    """A complete run with scores, and its files after rescoring."""

    def __init__(self, folder: Path, spawner: Spawner, layout: str) -> None:
        folder.mkdir()
        self.out = RunFolder(folder / "out")
        self._spawner = spawner
        self._job = folder / "job.yaml"
        rows = [{"q": f"ask {n} " + "x" * (n % 7), "n": n} for n in range(60)]
        (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
        job = {
            "version": 1,
            "name": "scored",
            "input": {"path": "rows.jsonl"},
            "prompt": {"user": "{{ q }}"},
            "model": {"engine": "echo"},
            "batching": {"part_rows": 20},
            "output": {"path": "out", "layout": layout},
            "evaluate": {"metrics": ["length"], "slices": [{"column": "n", "bins": [30]}]},
        }
        self._job.write_text(yaml.safe_dump(job))
        assert self.run().code == 0
        assert self.score().code == 0
        assert self.run().code == 0  # from here on equal answers have equal bytes
        self.before = files(self.out.path)
        self._kept = Path(shutil.copytree(self.out.path, folder / "kept"))
        assert self.score().code == 0
        self.after = files(self.out.path)
        assert self.before.keys() == self.after.keys()
        assert all(self.before[name] != self.after[name] for name in self.before)

    def start(self) -> None:
        """Restore the state before rescoring."""
        shutil.rmtree(self.out.path)
        shutil.copytree(self._kept, self.out.path)

    def run(self) -> Ended:
        return self._spawner.run(["run", str(self._job), "--json"])

    def score(self, *, fail_at: str = "") -> Ended:
        arguments = ["score", str(self.out.path), *NEW, "--json"]
        return self._spawner.run(arguments, env={VARIABLE: fail_at})

    def purge(self) -> Ended:
        return self._spawner.run(["purge", str(self.out.path)])

    @property
    def decided(self) -> bool:
        """Whether the new scores are committed, though some of their files may be missing."""
        return self.out.release.exists() or files(self.out.path) == self.after

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Read while the block runs; at any moment each file is complete, either old or new."""
        done, bad = threading.Event(), set[str]()

        def poll() -> None:
            while not done.wait(0.002):
                for name in self.before:
                    content = (self.out.path / name).read_bytes()
                    if content not in (self.before[name], self.after[name]):
                        bad.add(name)

        thread = threading.Thread(target=poll)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
        assert bad == set()


@pytest.fixture(scope="module")
def spawner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spawner]:
    with Spawner(tmp_path_factory.mktemp("log") / "log") as made:
        yield made


@pytest.fixture(scope="module", params=["file", "parts"])
def scored(
    request: pytest.FixtureRequest, spawner: Spawner, tmp_path_factory: pytest.TempPathFactory
) -> Scored:
    return Scored(tmp_path_factory.mktemp("score") / request.param, spawner, request.param)


def layout(scored: Scored) -> str:
    return "file" if scored.out.responses.exists() else "parts"


@pytest.mark.parametrize("point", sorted({*POINTS["file"], *POINTS["parts"]}))
@pytest.mark.parametrize("repair", ["score", "run"])
def test_a_kill_leaves_the_old_or_the_new_scores(scored: Scored, point: str, repair: str) -> None:
    scored.start()
    if point not in POINTS[layout(scored)]:
        pytest.skip("scoring in this layout does not pass it")
    with scored.reading():
        assert scored.score(fail_at=point).killed
        late = point.startswith(
            ("release.after", "publish.before_rename", "publish.after", "manif")
        )
        assert scored.decided == late
        assert (files(scored.out.path) == scored.before) or late
    if repair == "score":
        with scored.reading():
            assert scored.score().code == 0
        assert files(scored.out.path) == scored.after
    else:  # the job has other metrics than the command line had
        with scored.reading():
            assert scored.run().code == 0
        assert files(scored.out.path) == scored.before
    assert list(verify(scored.out).issues) == []
    assert manifest_is_true(scored.out)
    assert not scored.out.release.exists()
    assert not scored.out.staged.exists()
    assert list(scored.out.scratch.iterdir()) == []


def test_during_a_release_the_files_are_not_read_as_one_set(scored: Scored) -> None:
    scored.start()
    assert scored.score(fail_at="publish.after_rename").killed
    with pytest.raises(StateError, match=r"publishing of .* was interrupted"):
        open_scored_run(scored.out.path)
    assert [f.file for f in verify(scored.out).issues] == [".batchgen/release.json"]
    purged = scored.purge()
    assert purged.code == 0
    assert files(scored.out.path) == scored.after
    assert list(verify(scored.out).issues) == []


@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
@pytest.mark.parametrize("point", ["publish.before_sync", "release.half", "publish.before_rename"])
def test_scoring_resumes_after_a_disk_error(scored: Scored, point: str, error: str) -> None:
    scored.start()
    with scored.reading():
        ended = scored.score(fail_at=f"{point}={error}")
        assert ended.code == 5, ended.output
        assert "repeat the command to resume" in ended.output
        assert scored.score().code == 0
    assert files(scored.out.path) == scored.after


def test_answers_that_were_edited_are_not_scored(scored: Scored) -> None:
    scored.start()
    path = scored.out.path / next(name for name in scored.before if "responses" in name)
    pl.read_parquet(path).with_columns(pl.lit("better").alias("response")).write_parquet(path)
    before = files(scored.out.path)
    ended = scored.score()
    assert ended.code == 6
    assert f"{path} was changed or damaged after it was published" in ended.output
    assert files(scored.out.path) == before


@pytest.mark.parametrize("name", ["scores.parquet", "metrics.parquet"])
def test_damaged_scores_are_computed_again(scored: Scored, name: str) -> None:
    scored.start()
    (scored.out.path / name).write_bytes(b"nothing")
    refused = scored.run()
    assert refused.code == 6
    assert f"batchgen score {scored.out.path}" in refused.output
    assert scored.score().code == 0
    assert files(scored.out.path) == scored.after
    assert pq.read_metadata(scored.out.scores).num_rows == 180
