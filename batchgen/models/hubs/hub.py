"""The model hub: its cache on this machine, a probe, and the download.

Does not import huggingface_hub, which reads HF_HUB_OFFLINE when it is imported: that is decided here first.
"""

import json
import os
import queue
import re
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self
from urllib.parse import urlsplit

from batchgen.errors import ModelError
from batchgen.models.hubs import download
from batchgen.progress import LINE_EVERY_SECONDS, Reporter
from batchgen.storage.entries import is_file, is_folder

DEFAULT_ENDPOINT = "https://huggingface.co"
DEFAULT_REVISION = "main"
PROBE_SECONDS = 3.0
OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
SET_BY_US = "BATCHGEN_SET_OFFLINE"
"""Set with HF_HUB_OFFLINE by batchgen, to distinguish it from a user who forbids downloads."""
MODEL_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


class UnreachableError(Exception):
    """The hub does not respond; never leaves this package."""


@dataclass(frozen=True, slots=True)
class Hub:
    """A hub and its cache.

    Attributes:
        cache: folder of huggingface_hub's cache: models--OWNER--NAME/{blobs,refs,snapshots}.
        endpoint: URL of the hub or a mirror.
        offline_by: the environment variable with which the user forbids connections.
    """

    title: ClassVar[str] = "the hub"
    endpoint_variable: ClassVar[str] = "HF_ENDPOINT"
    elsewhere: ClassVar[tuple[tuple[str, str], ...]] = (
        ("a mirror of the hub", "HF_ENDPOINT=https://…  before the command"),
        ("ModelScope", "--set model.{key}=modelscope:OWNER/NAME"),
    )
    """What to try when it does not respond: names and options; `key` is that of the section `model`."""
    default_revision: ClassVar[str] = DEFAULT_REVISION
    downloads_with: ClassVar[str] = download.__name__
    """The module that downloads a model in a process of its own."""

    cache: Path
    endpoint: str = DEFAULT_ENDPOINT
    offline_by: str | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Read the variables that huggingface_hub reads, with the same precedence."""
        home = environment.get("XDG_CACHE_HOME") or "~/.cache"
        home = environment.get("HF_HOME") or f"{home}/huggingface"
        cache = environment.get("HF_HUB_CACHE") or environment.get("HUGGINGFACE_HUB_CACHE")
        return cls(
            cache=Path(os.path.expandvars(cache or f"{home}/hub")).expanduser().absolute(),
            endpoint=(environment.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/"),
            offline_by=offline_variable(environment),
        )

    @property
    def shown_endpoint(self) -> str:
        """The endpoint without user name and password."""
        parts = urlsplit(self.endpoint)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()

    def repository(self, model_id: str) -> Path:
        """The folder of a model in the cache."""
        return self.cache / f"models--{model_id.replace('/', '--')}"

    def snapshot(self, model_id: str, revision: str | None) -> Path | None:
        """The folder of a revision in the cache; it may be incomplete."""
        repository, wanted = self.repository(model_id), revision or self.default_revision
        try:
            commit = (repository / "refs" / wanted).read_text(encoding="utf-8").strip()
        except (OSError, ValueError):  # not a cached branch or tag: perhaps a commit
            commit = wanted
        if not commit or not is_folder(folder := repository / "snapshots" / commit):
            return None
        return folder

    def is_unfinished(self, folder: Path) -> bool:
        """Whether the download of a snapshot was interrupted, where files do not show it to `check_model_folder`."""
        del folder
        return False

    def newest(self, model_id: str, key: str, snapshot: Path) -> str:
        """The message about a download without a revision; `key` is the key of the job that sets one."""
        return (
            f"{model_id}: the newest revision, because {key} is not set; "
            f"to fix it, set {key}: {snapshot.name}"
        )

    def models(self) -> tuple[str, ...]:
        """Ids of the models in the cache, complete or not, sorted."""
        folders = self.cache.glob("models--*/snapshots")
        return tuple(
            sorted(f.parent.name.removeprefix("models--").replace("--", "/", 1) for f in folders)
        )

    def probe(self, seconds: float = PROBE_SECONDS) -> None:
        """Send one request. Any HTTP response counts, error pages included.

        Raises:
            UnreachableError: there is none in that time, name lookup included.
        """
        answer: queue.Queue[str | None] = queue.Queue()
        # A thread, because no timeout ends a name lookup; a daemon, because it may outlive the process.
        threading.Thread(
            target=lambda: answer.put(_ask(self.endpoint, seconds)), daemon=True
        ).start()
        try:
            refused = answer.get(timeout=seconds)
        except queue.Empty:
            refused = f"no response within {seconds:g} seconds"
        if refused is not None:
            raise UnreachableError(refused)

    def fetch(
        self, model_id: str, revision: str | None, reporter: Reporter, file: str = ""
    ) -> Path:
        """Download a model, or one file, into the cache, and return the folder of its snapshot; raises ModelError."""
        reporter.info(f"downloading {model_id} from {self.shown_endpoint}")
        command = [
            sys.executable, "-m", self.downloads_with,
            model_id, revision or self.default_revision, str(self.cache), self.endpoint, file,
        ]  # fmt: skip
        quiet = not reporter.draws_bars
        with subprocess.Popen(
            command,
            env=_online(quiet=quiet),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if quiet else None,
        ) as process:
            try:
                printed = self._wait(process, model_id, reporter)
            finally:
                process.kill()
        result = json.loads(printed) if printed.strip() else {}
        if "folder" not in result:
            raise ModelError(
                f"{model_id} could not be downloaded from {self.shown_endpoint}: "
                f"{result.get('problem', f'the process exited with {process.returncode}')}",
                hint="Run again to resume the download, or give a folder that contains the model.",
            )
        return Path(result["folder"])

    def _wait(self, process: subprocess.Popen[bytes], model_id: str, reporter: Reporter) -> bytes:
        while True:
            try:
                return process.communicate(timeout=LINE_EVERY_SECONDS)[0]
            except subprocess.TimeoutExpired:
                size = self._bytes_on_disk(model_id)
                reporter.info(f"downloading {model_id}: {size / 1e6:,.0f} MB so far")

    def _bytes_on_disk(self, model_id: str) -> int:
        blobs = (self.repository(model_id) / "blobs").glob("*")
        return sum(blob.stat().st_size for blob in blobs if is_file(blob))


_TRUE = ("1", "ON", "YES", "TRUE")
"""True for huggingface_hub."""


def offline_variable(environment: Mapping[str, str]) -> str | None:
    """The variable with which the user forbids connections; None if they are allowed."""
    named = [n for n in OFFLINE_VARIABLES if environment.get(n, "").upper() in _TRUE]
    return named[0] if named and SET_BY_US not in environment else None


def go_offline() -> None:
    """Stop later imports of huggingface_hub, here and in child processes, from connecting.

    If a program imported it earlier, `local_files_only` of every call still prevents connections.
    """
    if not any(os.environ.get(name, "").upper() in _TRUE for name in OFFLINE_VARIABLES):
        os.environ["HF_HUB_OFFLINE"] = "1"
        os.environ[SET_BY_US] = "1"


def _online(*, quiet: bool) -> dict[str, str]:
    environment = dict(os.environ)
    if environment.pop(SET_BY_US, None):
        environment.pop("HF_HUB_OFFLINE", None)
    environment["HF_HUB_DISABLE_TELEMETRY"] = "1"
    environment["HF_HUB_DISABLE_UPDATE_CHECK"] = "1"
    if quiet:
        environment["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    root = str(Path(__file__).parents[3])
    environment["PYTHONPATH"] = os.pathsep.join(
        [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    return environment


def _ask(endpoint: str, seconds: float) -> str | None:
    """None for a response, else the reason."""
    try:
        request = urllib.request.Request(endpoint, method="HEAD")
        with urllib.request.urlopen(request, timeout=seconds):
            return None
    except urllib.error.HTTPError:
        return None
    except urllib.error.URLError as error:
        return str(error.reason)[:200]
    except (OSError, ValueError) as error:
        return f"{type(error).__name__}: {error}"[:200]
