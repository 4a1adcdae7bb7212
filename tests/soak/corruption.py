"""Random harms to the files of a run folder: every reading command, and `run`, either work or name the harmed file.

    eight states of a folder ── one harm to one file ── each reading command ── `run` ── `verify`

A reading command ends as it does without the harm, or with 6. `run` ends with 0, with the rows of a run without faults and a
manifest that verifies; or with 6. Each message of a 6 names the file. There is never a traceback, and never a hang.
"""

import contextlib
import io
import json
import os
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from batchgen.__main__ import call
from tests.soak.harness import Work, content, flip

SECONDS = 40
"""Most that all commands on one harmed folder take; longer is a hang."""

Harm = Callable[[Path, random.Random], None]


def _byte(path: Path, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[chance.randrange(len(data))] = chance.randrange(256)
    path.write_bytes(data)


def _zero(path: Path, chance: random.Random) -> None:
    """Zero the file, or a stretch of it."""
    data = bytearray(path.read_bytes())
    first = chance.choice([0, chance.randrange(len(data))])
    last = chance.choice([len(data), chance.randint(first, len(data))])
    data[first:last] = bytes(last - first)
    path.write_bytes(data)


def _truncate(path: Path, chance: random.Random) -> None:
    os.truncate(path, chance.choice([0, chance.randrange(path.stat().st_size)]))


def _append(path: Path, chance: random.Random) -> None:
    with path.open("ab") as file:
        file.write(chance.randbytes(chance.choice([1, 100, 10_000])))


def _garbage(path: Path, chance: random.Random) -> None:
    path.write_bytes(chance.randbytes(chance.choice([1, path.stat().st_size])))


def _delete(path: Path, chance: random.Random) -> None:
    del chance
    path.unlink()


def _folder(path: Path, chance: random.Random) -> None:
    path.unlink()
    path.mkdir()
    if chance.random() < 0.5:
        (path / "a file").write_text("x")


def _link(path: Path, chance: random.Random) -> None:
    """A link to the same content elsewhere, to nothing, or to itself."""
    aside = path.parents[2] / f"elsewhere-{path.name}"
    kind = chance.randrange(3)
    if kind == 0:
        path.rename(aside)
    else:
        path.unlink()
    path.symlink_to(path if kind == 2 else aside)


def _pipe(path: Path, chance: random.Random) -> None:
    del chance
    path.unlink()
    os.mkfifo(path)


def _nested(path: Path, chance: random.Random) -> None:
    del chance
    path.write_text("[" * 200_000)


HARMS: Mapping[str, Harm] = {
    "bit": flip,
    "byte": _byte,
    "zero": _zero,
    "truncate": _truncate,
    "append": _append,
    "garbage": _garbage,
    "delete": _delete,
    "folder": _folder,
    "link": _link,
    "pipe": _pipe,
    "nested JSON": _nested,
}

LEFT = ("status", "show", "export", "runs", "verify", "plan", "compare", "score", "reuse")
"""The commands that change nothing in the folder."""


def _command(name: str, job: Path, out: Path, scratch: Path) -> list[str]:
    path = str(out)
    return {
        "status": ["status", path, "--json"],
        "show": ["show", path, "-n", "10000", "--json"],
        "export": ["export", path, "-o", str(scratch / "x.jsonl")],
        "runs": ["runs", path, "--json"],
        "verify": ["verify", path],
        "plan": ["plan", str(job), "--json"],
        "compare": ["compare", path, path],
        "score": ["score", path, "-m", "length", "-o", str(scratch / "s")],
        "reuse": ["run", str(job), "-q", "-o", str(scratch / "o"), "--incremental-from", path],
    }[name]


def _call(arguments: Sequence[str]) -> tuple[int, str]:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        code = call(arguments)
    return code, out.getvalue()


def look(arguments: Sequence[str]) -> int:
    """Run every reading command on OUT, then `run` and `verify`; print their codes and outputs as JSON.

    Arguments: job, OUT, and "run" or "". Called in a process of its own, so that a hang can be ended.
    """
    job, out = Path(arguments[0]), Path(arguments[1])
    results: dict[str, tuple[int, str]] = {}
    with tempfile.TemporaryDirectory(dir=job.parent) as folder:
        for name in LEFT:
            code, text = _call(_command(name, job, out, Path(folder)))
            if name == "export" and code == 0:
                text = (Path(folder) / "x.jsonl").read_text("utf-8")
            results[name] = code, text
    if arguments[2]:
        results["run"] = _call(["run", str(job), "--json", *arguments[3:]])
        results["verify after run"] = _call(["verify", str(out)])
    print(json.dumps(results))
    return 0


def corruptions(work: Work, count: int, chance: random.Random) -> Counter[str]:
    """Harm `count` files, each in a copy of a state; returns the number of each outcome, by state and harm."""
    states = {name: make(work) for name, make in STATES.items()}
    usual = {name: _look(work, state, name, run=False) for name, state in states.items()}
    seen: Counter[str] = Counter()
    for number in range(count):
        name = [*STATES][number % len(STATES)]
        path = _copy(work, states[name], chance)
        harm = chance.choice([h for h in HARMS if _applies(h, path)])
        HARMS[harm](path, chance)
        what = f"harm {number}: {harm} of {path.relative_to(work.out.path)}, {name}"
        found = _look(work, None, name, run=True, what=what)
        for command, (code, text) in found.items():
            _check(what, command, code, text, usual=usual[name], path=path)
        if found["run"][0] == 0:
            assert found["verify after run"][0] == 0, f"{what}: {found['verify after run']}"
            assert content(work.out).equals(work.golden), f"{what}: the rows changed"
        seen[f"{name:15} {harm:12} run ends with {found['run'][0]}"] += 1
    return seen


def _check(
    what: str,
    command: str,
    code: int,
    text: str,
    *,
    usual: Mapping[str, tuple[int, str]],
    path: Path,
) -> None:
    ended = f"{what}: {command} ended with {code}: {text}"
    assert "Traceback" not in text, ended
    if command == "verify after run":
        return
    expected = (0, 6) if command == "run" else (usual[command][0], 6)
    if (
        path.name not in ("retry.json", "release.json") or path.exists()
    ):  # without it, the run is as it was before the retry, or before its release
        assert code in expected, ended
    if code == 6 and code != usual.get(command, (0,))[0]:
        assert path.name.partition("-")[0] in text, ended
    elif command in ("show", "export") and code == 0 and not _holds_answers_to_repeat(path):
        assert text == usual[command][1], f"{what}: {command} prints other rows"


def _holds_answers_to_repeat(path: Path) -> bool:
    """Whether the rows of a file are generated again if it is lost: a deleted part, a record of the journal.

    Without withheld.json, the parts are shown, which have the same answers without scores.
    """
    deleted = not path.exists() and (path.suffix == ".bgpart" or path.name == "withheld.json")
    return "journal" in path.name or deleted


def _applies(harm: str, path: Path) -> bool:
    if harm == "nested JSON":
        return path.suffix == ".json"
    return harm in ("delete", "folder", "link", "pipe", "append") or path.stat().st_size > 0


def _look(
    work: Work, state: Path | None, name: str, *, run: bool, what: str = ""
) -> dict[str, tuple[int, str]]:
    if state is not None:
        work.clear()
        shutil.copytree(state, work.out.path)
    arguments = [str(work.job), str(work.out.path), "run" if run else "", *OPTIONS.get(name, ())]
    ended = work.spawner.run(arguments, call="tests.soak.corruption:look", kill_after=SECONDS)
    assert not ended.killed, f"{what}: a command hangs"
    assert ended.code == 0, f"{what}: {ended.output}"
    found = json.loads(ended.output.splitlines()[-1])
    return {command: (code, text) for command, (code, text) in found.items()}


def _copy(work: Work, state: Path, chance: random.Random) -> Path:
    """Copy a state to the job's output folder, and draw a file of it: a kind of file, then one of this kind."""
    work.clear()
    for left in work.folder.glob("elsewhere-*"):
        left.unlink()
    shutil.copytree(state, work.out.path)
    files = sorted(p for p in work.out.path.rglob("*") if p.is_file())
    kind = chance.choice(sorted({_kind(p) for p in files}))
    return chance.choice([p for p in files if _kind(p) == kind])


def _kind(path: Path) -> str:
    return path.suffix if path.stem[-1].isdigit() else path.name


OPTIONS: Mapping[str, Sequence[str]] = {}
"""Further options of `run`, by state."""


def _stopped(work: Work) -> None:
    work.clear()
    assert work.run(fail_at="record.after_rename:3").killed
    assert work.run("--set", "run.max_runtime=0s").code == 75


def _half_way(work: Work) -> Path:
    _stopped(work)
    return _kept(work, "half-way")


def _with_a_log(work: Work) -> Path:
    _stopped(work)
    assert work.run(fail_at="part.half").killed
    assert work.out.journal.with_name("journal.sqlite3-wal").stat().st_size
    return _kept(work, "log")


def _complete(work: Work) -> Path:
    work.clear()
    assert work.run().code == 0
    return _kept(work, "complete")


def _in_publication(work: Work) -> Path:
    work.clear()
    assert work.run(fail_at="publish.after_rename").killed
    assert work.out.release.exists()
    return _kept(work, "publication")


def _retrying(work: Work) -> Path:
    work.clear()
    assert work.run().code == 0
    assert work.run("--retry-errors", fail_at="retry.after_rename").killed
    assert work.out.retry.exists()
    return _kept(work, "retrying")


def _incremental(work: Work) -> Path:
    work.clear()
    base = str(work.folder / "golden")
    assert work.run("--incremental-from", base, fail_at="record.after_rename:3").killed
    return _kept(work, "incremental")


def _withheld(work: Work) -> Path:
    work.clear()
    assert work.run("--set", "output.publish=gated", "--set", "run.max_error_rate=0").code == 3
    assert work.out.withheld.exists()
    return _kept(work, "withheld")


def _scored(work: Work) -> Path:
    work.clear()
    assert work.run().code == 0
    score = ["score", str(work.out.path), "-m", "{type: length, name: second}"]
    assert work.spawner.run(score).code == 0
    return _kept(work, "scored")


STATES: Mapping[str, Callable[[Work], Path]] = {
    "half-way": _half_way,
    "with a log": _with_a_log,
    "complete": _complete,
    "in publication": _in_publication,
    "retrying": _retrying,
    "incremental": _incremental,
    "withheld": _withheld,
    "scored": _scored,
}


def _kept(work: Work, name: str) -> Path:
    kept = work.folder / "states" / name
    shutil.rmtree(kept, ignore_errors=True)
    return Path(shutil.copytree(work.out.path, kept))
