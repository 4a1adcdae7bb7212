"""Downloads one model from ModelScope, in a process of its own, the only one that connects.

`python -m batchgen.models.hubs.modelscope_download ID REVISION CACHE ENDPOINT FILE` prints one JSON object:
{"folder"} or {"problem"}. modelscope_hub continues files that an earlier download left behind, and compares each file
with the SHA-256 that the server lists.
"""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from batchgen.models.hubs.download import DUPLICATES, PATTERNS, first_line
from batchgen.storage.processes import end_with_parent

UNFINISHED = ".incomplete"
"""End of the names of files that modelscope_hub has in part; alone, the marker of a snapshot whose download did not end."""
_SETTINGS = {
    "MODELSCOPE_DOWNLOAD_INTRA_CLOUD": "false",
    "MODELSCOPE_DOWNLOAD_TOTAL_TIMEOUT": "604800",
    "MODELSCOPE_LOG_LEVEL": "ERROR",
}
"""Unless the user sets them: no request to an address that the server names, a week instead of an hour for each file, no
messages between the progress bars. modelscope_hub reads them when it is imported."""


def folder_of(cache: Path, model_id: str) -> Path:
    """The folder of a model in modelscope_hub's cache."""
    return cache / "models" / model_id.replace("/", "--")


def download(model_id: str, revision: str, *, cache: Path, endpoint: str, file: str = "") -> Path:
    """Complete the snapshot in the cache, or only one file of it, and return its folder.

    Raises:
        FileNotFoundError: the repository does not contain the file.
        OSError, ValueError, HubError: as modelscope_hub.
    """
    from modelscope_hub import HubApi, HubConfig

    folder = folder_of(cache, model_id) / "snapshots" / revision
    folder.mkdir(parents=True, exist_ok=True)
    marker = folder / UNFINISHED
    if not file:
        marker.touch()
    # With `local_dir`, because an older layout of the cache has one folder for all revisions.
    HubApi(config=HubConfig(endpoint=endpoint, cache_dir=cache)).download_repo(
        model_id,
        "model",
        revision=revision,
        cache_dir=cache,
        local_dir=folder,
        allow_patterns=[file] if file else list(PATTERNS),
        ignore_patterns=[] if file else list(DUPLICATES),
    )
    if file and not (folder / file).exists():
        raise FileNotFoundError(f"{model_id} has no file {file} at revision {revision}")
    if not file:
        marker.unlink(missing_ok=True)
    return folder


def problem(error: Exception, model_id: str, revision: str, *, endpoint: str) -> str:
    """An error of modelscope_hub in one line."""
    from modelscope_hub import errors

    if isinstance(error, errors.AuthenticationError | errors.PermissionDeniedError):
        return f"{model_id} is not public: set MODELSCOPE_API_TOKEN to a token of an account that may read it"
    if isinstance(error, errors.NotExistError):
        found = _revisions(model_id, endpoint)
        if not found:
            return f"{model_id} does not exist, or is private and MODELSCOPE_API_TOKEN is not set"
        return f"{model_id} has no revision {revision}; found {', '.join(found[:_SHOWN])}"
    if isinstance(error, errors.FileDownloadError) and error.failed_files:
        name, cause = next(iter(error.failed_files.items()))
        return (
            f"{len(error.failed_files)} of {error.total} files failed; {name}: {first_line(cause)}"
        )
    return first_line(error)


_SHOWN = 8


def _revisions(model_id: str, endpoint: str) -> list[str]:
    """Branches and tags; empty if the model does not exist."""
    from modelscope_hub import HubApi, HubConfig, errors

    api = HubApi(config=HubConfig(endpoint=endpoint))
    try:
        return [str(one["Revision"]) for one in api.list_repo_revisions(model_id, "model")]
    except (errors.HubError, KeyError):
        return []


def main(arguments: Sequence[str]) -> None:
    """Download, and print the result as JSON."""
    name, revision, cache, endpoint, file = arguments
    model_id = name.removeprefix("modelscope:")
    for variable, value in _SETTINGS.items():
        os.environ.setdefault(variable, value)
    from modelscope_hub.errors import HubError

    try:
        folder = download(model_id, revision, cache=Path(cache), endpoint=endpoint, file=file)
        result = {"folder": str(folder)}
    except (HubError, OSError, ValueError, RuntimeError) as error:
        result = {"problem": problem(error, model_id, revision, endpoint=endpoint)}
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    end_with_parent(os.getppid())
    main(sys.argv[1:])
