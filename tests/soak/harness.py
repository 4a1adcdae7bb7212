"""Shared by the durability tests: starting and killing real processes, a polling reader, and the oracle.

The oracle is a run without faults: all other runs must end with the same rows.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import polars as pl
import pyarrow.parquet as pq
import yaml

from batchgen.inspection import status as inspect
from batchgen.inspection.verify import verify
from batchgen.state.run_folder import RunFolder
from batchgen.storage.failpoints import VARIABLE

ROOT = Path(__file__).resolve().parents[2]
OF_THE_RUN = ("run_id", "created_at")
"""Columns that may differ between two runs."""


class Spawner:
    """Starts processes through `zygote.py`; one at a time."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._zygote = subprocess.Popen(
            [sys.executable, "-m", "tests.soak.zygote"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        del kind, error, trace
        self._zygote.communicate()

    def run(
        self,
        arguments: Sequence[str],
        *,
        call: str = "batchgen.__main__:call",
        env: Mapping[str, str] | None = None,
        kill_after: float | None = None,
    ) -> "Ended":
        """Run `batchgen ARGUMENTS` until it ends, or kill it after `kill_after` seconds."""
        request = {
            "call": call,
            "arguments": list(arguments),
            "env": {VARIABLE: "", **(env or {})},
            "log": str(self._log),
        }
        assert self._zygote.stdin is not None
        self._zygote.stdin.write(json.dumps(request) + "\n")
        self._zygote.stdin.flush()
        child = self._answer()["pid"]
        timer = threading.Timer(kill_after or 0, _kill, [child])
        if kill_after is not None:
            timer.start()
        code = self._answer()["code"]
        timer.cancel()
        return Ended(code, self._log.read_text("utf-8", "replace"))

    def _answer(self) -> Any:
        assert self._zygote.stdout is not None
        return json.loads(self._zygote.stdout.readline())


def _kill(child: int) -> None:
    with suppress(ProcessLookupError):  # it ended before the signal
        os.kill(child, signal.SIGKILL)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended; `output` is its stdout and stderr."""

    code: int
    output: str

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL


@dataclass
class Work:
    """A job in a separate folder, with rows that succeed and rows that fail; the answers are scored."""

    folder: Path
    spawner: Spawner
    rows: int = 600
    layout: str = "file"
    golden: pl.DataFrame = field(init=False)
    expected: Mapping[str, pl.DataFrame] = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.write_input()
        job = {
            "version": 1,
            "name": "soak",
            "input": {"path": "rows.jsonl"},
            "prompt": {"user": "{{ q }}"},
            "model": {"engine": "echo"},
            "batching": {"part_rows": 50},
            "output": {"path": "out", "layout": self.layout},
            "evaluate": {
                "metrics": ["length"],
                "slices": [{"column": "output_tokens", "bins": [20, 40]}],
            },
            "run": {"max_error_rate": 0.5},
        }
        self.job.write_text(yaml.safe_dump(job))
        ended = self.run("--output", str(self.folder / "golden"))
        assert ended.code == 0, ended.output
        golden = RunFolder(self.folder / "golden")
        self.golden = content(golden)
        self.expected = {
            path.relative_to(golden.path).as_posix(): table(path)
            for path in golden.path.rglob("*.parquet")
        }
        assert self.golden.height == self.rows
        assert self.golden["error_code"].drop_nulls().len() > 0

    @property
    def job(self) -> Path:
        return self.folder / "job.yaml"

    @property
    def out(self) -> RunFolder:
        return RunFolder(self.folder / "out")

    def write_input(self, edited: int | None = None) -> None:
        """Write the rows, with an optional edit of one of them."""
        lines = [json.dumps({"q": _question(n), "n": n}) for n in range(self.rows)]
        if edited is not None:
            lines[edited % self.rows] = json.dumps({"q": "edited", "n": edited})
        (self.folder / "rows.jsonl").write_text("\n".join(lines) + "\n")

    def run(self, *options: str, fail_at: str = "", kill_after: float | None = None) -> Ended:
        """`batchgen run` of this job."""
        arguments = ["run", str(self.job), "--json", *options]
        return self.spawner.run(arguments, env={VARIABLE: fail_at}, kill_after=kill_after)

    def saved(self) -> int:
        """Rows that `batchgen status` counts as saved."""
        if not self.out.run.exists():
            return 0
        return inspect.status(self.out.path).counts.rows

    def clear(self) -> None:
        """Delete the run."""
        shutil.rmtree(self.out.path, ignore_errors=True)

    def finish(self) -> int:
        """Resume without faults and compare the result with the oracle. Returns the number of rows saved before."""
        saved = self.saved()
        ended = self.run()
        assert ended.code == 0, ended.output
        output = json.loads(ended.output.splitlines()[-1])
        assert output["rows"]["resumed"] >= saved, "something that was saved has been lost"
        self.check()
        return int(output["rows"]["resumed"])

    def check(self) -> None:
        """Compare the published rows with the oracle: each row once, in order, equal; the manifest matches."""
        found = content(self.out)
        assert found.equals(self.golden), "the answers are not those of an undisturbed run"
        assert table(self.out.metrics).equals(self.expected["metrics.parquet"])
        assert manifest_is_true(self.out)
        assert list(verify(self.out).issues) == []
        assert not list(self.out.parts.iterdir())
        assert not self.out.journal.exists()


def _question(n: int) -> str | None:
    if n % 97 == 5:
        return None
    return "" if n % 89 == 7 else f"问 {n} " + "x" * (n * 7 % 60)


def content(out: RunFolder) -> pl.DataFrame:
    """The published answers, read with page checksums, without the columns that differ from run to run."""
    files = sorted(out.path.glob("responses.parquet")) or sorted(
        out.response_parts.glob("*.parquet")
    )
    return pl.concat(map(table, files))


def table(path: Path) -> pl.DataFrame:
    """A published table, read with page checksums, without the columns that differ from run to run."""
    frame = pl.from_arrow(pq.ParquetFile(path, page_checksum_verification=True).read())
    assert isinstance(frame, pl.DataFrame)
    return frame.drop(OF_THE_RUN, strict=False)


def manifest_is_true(out: RunFolder) -> bool:
    """Whether the published files are those that the manifest names."""
    manifest = json.loads(out.manifest.read_text())
    return all(
        sha256((out.path / file["name"]).read_bytes()).hexdigest() == file["sha256"]
        for file in manifest["files"]
    )


@dataclass
class Reader:
    """Repeatedly reads every file with a Parquet name in a run's folder."""

    work: Work
    reads: int = 0
    bad: list[str] = field(default_factory=list)

    def look(self) -> None:
        """Read every file once."""
        for path in self._found():
            try:
                found = table(path)
            except FileNotFoundError:
                continue  # moved aside, or another folder of parts was published
            except Exception as error:  # noqa: BLE001  # any error is what this reader is looking for
                self.bad.append(f"{path}: {error!r}")
                continue
            self.reads += 1
            name = path.relative_to(self.work.out.path).as_posix()
            if not found.equals(self.work.expected[name.removeprefix(".batchgen/staged/")]):
                self.bad.append(f"{path}: other rows")

    def _found(self) -> list[Path]:
        try:
            return list(self.work.out.path.rglob("*.parquet"))
        except FileNotFoundError:
            return []  # a folder was deleted while it was listed


@contextmanager
def reading(work: Work) -> Iterator[Reader]:
    """Poll with a reader while the block runs; every file that it has seen must have been complete."""
    reader, done = Reader(work), threading.Event()

    def poll() -> None:
        while not done.wait(0.01):
            reader.look()

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        yield reader
    finally:
        done.set()
        thread.join()
    assert reader.bad == []


def flip(path: Path, chance: random.Random) -> None:
    """Flip one bit of a file."""
    data = bytearray(path.read_bytes())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(bytes(data))


@dataclass
class Kills:
    """Counts of random kills."""

    kills: int = 0
    jobs: int = 0
    condemned: int = 0
    reads: int = 0


def random_kills(work: Work, count: int, chance: random.Random, longest: float) -> Kills:
    """Kill runs at random moments until `count` were killed; each job is then finished and checked."""
    total = Kills()
    while total.kills < count:
        work.clear()
        with reading(work) as reader:
            died = _killed_until_done(work, min(12, count - total.kills), chance, longest)
            total.condemned += _finish_with_suspects(work, died)
        total.kills += died
        total.jobs += 1
        total.reads += reader.reads
    return total


def _killed_until_done(work: Work, most: int, chance: random.Random, longest: float) -> int:
    died, saved, done = 0, 0, False
    while died < most and not done:
        ended = work.run(kill_after=chance.uniform(0, longest))
        done = ended.code == 0
        assert done or ended.killed, ended.output
        assert work.saved() >= saved, "something that was saved has been lost"
        saved = work.saved()
        died += ended.killed
    return died


def _finish_with_suspects(work: Work, died: int) -> int:
    """Finish. The death of the process condemns no row."""
    ended = work.run()
    assert ended.code == 0, ended.output
    condemned = content(work.out).filter(pl.col("error_code") == "crash_suspect").height
    assert condemned == 0, f"after {died} kills"
    work.check()
    return condemned
