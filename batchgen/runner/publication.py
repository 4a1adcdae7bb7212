"""The end of a run: publish the answers, say in the manifest what they are, and clear up.

check lock and input ─> answers ─> manifest: the run is complete ─> delete parts and journal
"""

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from batchgen.data.durable import disk_errors
from batchgen.data.folder import RunFolder, read_json
from batchgen.data.parts import Counts, SealedPart, clear_parts
from batchgen.data.publish import PublishedFile, check_published, publish
from batchgen.data.sqlite import remove
from batchgen.data.unchanged import Unchanged
from batchgen.runner.identity import FORMAT, Identity
from batchgen.runner.lock import Lock
from batchgen.runner.result import RunResult
from batchgen.runner.setup import Setup


@dataclass(frozen=True, slots=True)
class Publication:
    """What it takes to publish a run whose parts are all sealed."""

    folder: RunFolder
    lock: Lock
    setup: Setup
    identity: Identity

    def publish(self, sealed: Mapping[int, SealedPart], result: RunResult) -> None:
        """Publish all parts, then the manifest, which makes the run complete.

        Raises:
            DataError: the input is not what the answers were made from; nothing is published.
            StateError: a part is damaged, or the lock is lost.
            ResourceError: the disk refused.
        """
        setup, output = self.setup, self.setup.job.output
        origin = {
            "job": setup.job.name,
            "fingerprint": self.identity.fingerprint,
            "settings": self.identity.settings,
            "model": _model_record(setup),
            "versions": versions(),
        }
        schema = setup.reading.layout.schema(setup.survey.schema)
        self.lock.check()
        Unchanged(setup.survey.files).read()
        files = publish(self.folder, sealed, schema, output=output, facts=origin)
        manifest = {
            "format": FORMAT,
            "run_id": self.identity.run_id,
            **origin,
            "files": [asdict(file) for file in files],
            "rows": self.identity.rows,
            "samples": setup.asking.samples,
            "counts": asdict(result.counts),
            "max_errors": result.max_errors,
            "input": list(self.identity.input),
            "engine": dict(result.engine),
            "started_at": self.identity.started_at,
            "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(result.seconds, 3),
            "load_seconds": round(result.load_seconds, 3),
            "resumed_rows": result.resumed_rows,
        }
        mode = int(output.file_mode, 8)
        self.lock.check()
        self.folder.write_json(self.folder.manifest, manifest, stage="manifest", mode=mode)


def already_complete(folder: RunFolder, setup: Setup) -> RunResult:
    """The result of a run that an earlier start brought to its end.

    Raises:
        StateError: what is published is damaged.
    """
    manifest = read_json(folder.manifest)
    check_published(folder, [PublishedFile(**file) for file in manifest["files"]])
    clean(folder)
    counts = Counts(**manifest["counts"])
    return RunResult(
        outcome="already complete",
        folder=folder,
        run_id=manifest["run_id"],
        counts=counts,
        expected_rows=counts.rows,
        resumed_rows=counts.rows,
        seconds=0.0,
        load_seconds=0.0,
        max_errors=setup.job.run.max_errors,
        engine=manifest["engine"],
    )


def clean(folder: RunFolder) -> None:
    """Delete what only an unfinished run needs."""
    with disk_errors("cannot delete", folder.retry):
        folder.retry.unlink(missing_ok=True)
    clear_parts(folder)
    remove(folder.journal)


def _model_record(setup: Setup) -> dict[str, Any]:
    if setup.model is None:
        return {}
    resolved = setup.model.resolved
    return {
        "name": resolved.name,
        "source": resolved.source,
        "revision": resolved.revision,
        "lock": setup.model.lock.name if setup.model.lock else None,
        "parameters": setup.model.card.parameters,
    }


def versions() -> dict[str, str]:
    """The libraries that decide what comes out."""
    names = ("batchgen-llm", "torch", "transformers", "tokenizers", "pyarrow", "polars")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}
