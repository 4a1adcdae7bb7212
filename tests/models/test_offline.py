"""A model on disk is used without connections: a guard in the process rejects every attempt."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Write = Callable[..., Path]
ROOT = Path(__file__).resolve().parents[2]

GUARDED = """
import sys

def guard(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        raise SystemExit(f"a connection: {event} {arguments}")

sys.addaudithook(guard)
"""
USE = """
import os
from batchgen.job.spec import ModelSpec
from batchgen.models.info import read_model_info
from batchgen.models.find_model import resolve_model

found = resolve_model(sys.argv[1])
assert found.source == sys.argv[2], found
assert os.environ["HF_HUB_OFFLINE"] == "1"
read_model_info(found)
heavy = {"torch", "transformers", "huggingface_hub"} & set(sys.modules)
assert not heavy or "early" in sys.argv, heavy
from batchgen.models.tokenizer import load_tokenizer
assert load_tokenizer(found, ModelSpec(path=sys.argv[1])).eos_token_id == 257
from huggingface_hub import constants
assert constants.HF_HUB_OFFLINE or "early" in sys.argv
"""


def run(program: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "BATCHGEN_SET_OFFLINE")
    rest = {name: value for name, value in os.environ.items() if name not in names}
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT,
        env=rest | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_a_folder_is_used_without_a_connection_even_if_transformers_came_first(
    tmp_path: Path, write_model: Write
) -> None:
    """transformers is imported before batchgen can set the offline mode."""
    folder = write_model(tmp_path / "model")
    early = "import huggingface_hub, transformers\n"

    ended = run(early + GUARDED + USE, str(folder), "folder", "early")

    assert ended.returncode == 0, ended.stderr


@pytest.mark.slow
def test_a_cached_model_is_used_without_a_connection(tmp_path: Path, write_model: Write) -> None:
    write_model(tmp_path / "hub" / "models--a--b" / "snapshots" / "abc")
    (tmp_path / "hub" / "models--a--b" / "refs").mkdir()
    (tmp_path / "hub" / "models--a--b" / "refs" / "main").write_text("abc")

    ended = run(GUARDED + USE, "a/b", "cache", HF_HUB_CACHE=str(tmp_path / "hub"))

    assert ended.returncode == 0, ended.stderr


def test_the_guard_detects_the_request_to_the_hub(tmp_path: Path) -> None:
    """Proves that the guard of the tests above works: a missing model triggers it."""
    program = GUARDED.replace("raise SystemExit(", "print(") + (
        "from batchgen.models.find_model import resolve_model\nresolve_model('a/b')\n"
    )

    ended = run(
        program, HF_HUB_CACHE=str(tmp_path), HF_ENDPOINT="http://127.0.0.1:1", no_proxy="127.0.0.1"
    )

    assert "a connection: socket.connect" in ended.stdout
    assert "does not respond" in ended.stderr


def test_nothing_heavy_is_imported_with_the_package(tmp_path: Path) -> None:
    modules = sorted(
        ".".join(f.relative_to(ROOT / "batchgen" / "models").with_suffix("").parts)
        for f in (ROOT / "batchgen" / "models").rglob("*.py")
        if f.stem != "__init__"
    )
    program = "import sys\n" + "".join(f"import batchgen.models.{m}\n" for m in modules)
    program += "print({'torch', 'transformers', 'huggingface_hub', 'gguf', 'accelerate'} & set(sys.modules))"

    ended = run(program, BATCHGEN_CACHE=str(tmp_path))

    assert ended.stdout == "set()\n", ended.stderr
