"""`batchgen verify`: is everything in a run's folder as it was written? Reads all of it, changes nothing.

    manifest ── its files byte for byte ── their pages, schema, counts     once the run is complete
    run.json ── sealed parts ── journal                                    what is private

A run that is at work may be verified too: what is sealed does not change any more.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from batchgen.errors import StateError
from batchgen.fingerprint import fingerprint
from batchgen.inspection import part_checks as files
from batchgen.inspection.part_checks import relative_name
from batchgen.output.publish import IntegrityIssue, PublishedFile, integrity_issues
from batchgen.state.identity import Identity, read_identity
from batchgen.state.run_folder import RunFolder, read_json


@dataclass(frozen=True, slots=True)
class IntegrityReport:
    """What was looked at, and what was found.

    Attributes:
        checked: files that were read, relative to the run's folder.
    """

    state: Literal["complete", "unfinished"]
    checked: Sequence[str]
    findings: Sequence[IntegrityIssue]


def verify(folder: RunFolder) -> IntegrityReport:
    """Check a run's folder: see the head of this file."""
    private = [folder.run, *sorted(folder.parts.glob("*.bgpart")), folder.journal]
    checked = [relative_name(folder, path) for path in private if path.exists()]
    findings = list(_private(folder))
    if folder.release.exists():
        findings.append(
            IntegrityIssue(
                relative_name(folder, folder.release),
                "says that files are being replaced, or were when a process died; run or score it again",
            )
        )
    elif folder.manifest.exists():
        findings += _published(folder)
        checked += [folder.manifest.name, *_names(folder)]
    return IntegrityReport("complete" if folder.complete else "unfinished", checked, findings)


def _private(folder: RunFolder) -> Iterator[IntegrityIssue]:
    try:
        identity = read_identity(folder)
    except StateError as error:
        yield IntegrityIssue(relative_name(folder, folder.run), _without_place(error, folder))
        return
    if identity is None:
        yield IntegrityIssue(relative_name(folder, folder.run), "is missing")
        return
    if folder.manifest.exists():
        yield from _of_one_run(folder, identity)
    for part in sorted(folder.parts.glob("*.bgpart")):
        yield from files.corrupt_part(folder, part)
    if folder.journal.exists():
        yield from files.corrupt_journal(folder, identity.run_id)


def _of_one_run(folder: RunFolder, identity: Identity) -> Iterator[IntegrityIssue]:
    """With `publish: gated`, what is published may be another run's than what is private; then they need not agree."""
    try:
        manifest = read_json(folder.manifest)
    except StateError:
        return  # said by `_published`
    if manifest["run_id"] == identity.run_id and manifest["fingerprint"] != identity.fingerprint:
        yield IntegrityIssue(
            folder.manifest.name,
            f"has another fingerprint than {relative_name(folder, folder.run)}",
        )


def _published(folder: RunFolder) -> Iterator[IntegrityIssue]:
    try:
        manifest = read_json(folder.manifest)
        listed = [PublishedFile(**file) for file in manifest["files"]]
        true = manifest["fingerprint"] == fingerprint(manifest["settings"])
    except StateError as error:
        yield IntegrityIssue(folder.manifest.name, _without_place(error, folder))
        return
    if not true:
        yield IntegrityIssue(
            folder.manifest.name, "has settings that do not match their fingerprint"
        )
    differing = list(integrity_issues(folder, listed))
    yield from differing
    yield from files.unexpected_files(folder, {file.name for file in listed})
    if not differing:
        yield from files.mismatched_files(folder, listed, manifest)


def _names(folder: RunFolder) -> list[str]:
    try:
        return [str(file["name"]) for file in read_json(folder.manifest)["files"]]
    except StateError:
        return []


def _without_place(error: StateError, folder: RunFolder) -> str:
    """The message without the file's path, which findings name by themselves."""
    for path in (folder.run, folder.manifest):
        if error.message.startswith(f"{path} "):
            return error.message.removeprefix(f"{path} ")
    return error.message
