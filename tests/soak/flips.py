"""Flipped bits in the state of a killed run and in a complete run: detected or without effect, never other answers."""

import random
import shutil
from collections import Counter
from pathlib import Path

from batchgen.state.run_folder import read_json
from batchgen.state.sqlite_journal import saved_answers
from tests.soak.harness import Work, content, flip


def flips(work: Work, count: int, chance: random.Random) -> Counter[str]:
    """Flip `count` bits, each in a separate run; returns the number of each outcome, by file.

    A run either ends with the answers of a run without faults, or with 5 or 6 and a message that names the file.
    """
    seen: Counter[str] = Counter()
    states = [_midway(work), _complete(work)]
    for _ in range(count):
        state = chance.choice(states)
        work.clear()
        shutil.copytree(state, work.out.path)
        path = _any_of_any_kind(work.out.path, chance)
        flip(path, chance)
        seen[f"{_kind(path)}: {_outcome(work, path)}"] += 1
    return seen


def _outcome(work: Work, path: Path) -> str:
    ended = work.run()
    if ended.code == 0:
        # The parts of the copied state have its run id; everything else must be the same.
        assert content(work.out).equals(work.golden), f"{path}: the answers changed"
        return "detected and repaired" if "damaged" in ended.output else "no effect"
    assert ended.code in (5, 6), ended.output
    assert path.name in ended.output or str(path.parent) in ended.output, ended.output
    assert "Traceback" not in ended.output
    return f"refused with {ended.code}"


def _any_of_any_kind(folder: Path, chance: random.Random) -> Path:
    """Draw a kind of file, then a file, so that a kind with many files does not get most of the bits."""
    files = sorted(p for p in folder.rglob("*") if _has_bits(p))
    kind = chance.choice(sorted({_kind(p) for p in files}))
    return chance.choice([p for p in files if _kind(p) == kind])


def _has_bits(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _kind(path: Path) -> str:
    if path.suffix == ".tmp":
        return "a staged file"
    if path.stem.startswith("part-"):
        return "a published part"
    return (
        path.name if path.suffix != ".bgpart" and not path.stem.isdigit() else f"part{path.suffix}"
    )


def _midway(work: Work) -> Path:
    """Sealed parts, their records, a journal with a few answers, and rows in flight."""
    work.clear()
    assert work.run(fail_at="record.after_rename:5").killed
    for _ in range(8):
        assert work.run("--set", "run.max_runtime=0s").code == 75
    assert work.run(fail_at="part.half").killed
    assert len(list(work.out.parts.glob("*.bgpart"))) == 5
    assert len(saved_answers(work.out.journal, read_json(work.out.run)["run_id"])) >= 8
    return _kept(work, "midway")


def _complete(work: Work) -> Path:
    work.clear()
    assert work.run().code == 0
    return _kept(work, "complete")


def _kept(work: Work, name: str) -> Path:
    return Path(shutil.copytree(work.out.path, work.folder / name))
