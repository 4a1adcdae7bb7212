"""Finding the input: from paths, folders, globs and lists down to regular files of one format.

A folder gives the files in it, at any depth, whose names end as their format does (`.parquet` `.pq`, `.csv` `.tsv`,
`.jsonl` `.ndjson`; CSV and JSONL also with `.gz` or `.zst`), without names that begin with a dot or an underscore,
sorted by path. Knows nothing of what is inside the files.
"""

import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

from batchgen.errors import DataError
from batchgen.input.paths import PathMatch, expand_path, file_identity, missing_path_error
from batchgen.job.spec import Input

FileFormat = Literal["parquet", "csv", "jsonl"]
Compression = Literal["none", "gzip", "zstd"]

FORMATS: dict[str, FileFormat] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
COMPRESSIONS: dict[str, Compression] = {".gz": "gzip", ".zst": "zstd"}
HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"

_WAYS_OUT = {
    ".tmp": "Is it still being written? Wait for its final name, or set input.format if it is complete.",
    ".part": "Is it still being written? Wait for its final name, or set input.format if it is complete.",
    ".json": "One JSON object per line is JSONL: name it .jsonl or set input.format: jsonl.",
    ".xlsx": "Save the sheet as CSV UTF-8.",
    ".xls": "Save the sheet as CSV UTF-8.",
    ".zip": "Unpack it first.",
    ".bz2": "Unpack it first, or compress with gzip or zstd.",
    ".xz": "Unpack it first, or compress with gzip or zstd.",
}


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file of the input, as it was when it was found.

    Attributes:
        size: bytes on disk.
        modified_ns: time of the last change, nanoseconds since 1970.
        partitions: hive columns that the folders above it say, such as (("lang", "zh"),); None is a null.
    """

    path: Path
    format: FileFormat
    size: int
    modified_ns: int
    compression: Compression = "none"
    partitions: tuple[tuple[str, str | None], ...] = ()

    def check_unchanged(self) -> None:
        """Raise DataError if the file is no longer the one that was found."""
        try:
            now = self.path.stat()
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read any more: {error.strerror}") from error
        if (now.st_size, now.st_mtime_ns) != (self.size, self.modified_ns):
            raise DataError(
                f"{self.path}: changed while batchgen was using it "
                f"({self.size:,} bytes before, {now.st_size:,} now)",
                hint="Put new input beside the old, under a new name, and run again.",
            )


def find_files(spec: Input) -> tuple[InputFile, ...]:
    """The files that `input.path` names, of one format, in the order of reading.

    Raises:
        DataError: nothing there, a special file, a symlink loop, several formats, the same file twice.
    """
    paths = (spec.path,) if isinstance(spec.path, str) else spec.path
    files: list[InputFile] = []
    for path in paths:
        taken = [
            file
            for found in expand_path(path)
            if (file := _input_file(found, spec.format)) is not None
        ]
        if not taken:
            raise _nothing(path, spec.format)
        files += taken
    _check_one_format(files)
    _check_no_repeats(files)
    _check_partitions(files)
    return tuple(files)


def _format_of(name: str) -> tuple[FileFormat | None, Compression]:
    suffixes = [suffix.lower() for suffix in Path(name).suffixes[-2:]]
    compression: Compression = "none"
    if suffixes and suffixes[-1] in COMPRESSIONS:
        compression = COMPRESSIONS[suffixes.pop()]
    return FORMATS.get(suffixes[-1]) if suffixes else None, compression


def _input_file(found: PathMatch, asked: str) -> InputFile | None:
    """The file as input; None for one in a folder whose name does not end as a table's does."""
    by_name, compression = _format_of(found.path.name)
    format_ = by_name if asked == "auto" else _asked_format(asked)
    if not found.named and (by_name is None or by_name != format_):
        return None
    if format_ is None:
        suffix = found.path.suffix.lower()
        raise DataError(
            f"{found.path}: its format cannot be told from its name; expected {_endings('auto')}",
            hint=_WAYS_OUT.get(suffix, "Set input.format: parquet, csv or jsonl."),
        )
    if format_ == "parquet" and compression != "none":
        raise DataError(
            f"{found.path}: Parquet inside {compression} cannot be read",
            hint="Unpack it: Parquet files are compressed inside.",
        )
    try:
        status = found.path.stat()
    except OSError as error:
        raise missing_path_error(found.path, error) from error
    if not stat.S_ISREG(status.st_mode):
        raise DataError(
            f"{found.path}: is {_kind(status.st_mode)}; expected a regular file",
            hint="Input is read more than once: copy the data into a file.",
        )
    return InputFile(
        found.path, format_, status.st_size, status.st_mtime_ns, compression, _partitions(found)
    )


def _asked_format(asked: str) -> FileFormat:
    return next(format_ for format_ in FORMATS.values() if format_ == asked)


def _partitions(found: PathMatch) -> tuple[tuple[str, str | None], ...]:
    if found.path.parent == found.root:
        return ()
    pairs = (
        part.split("=", 1) for part in found.path.relative_to(found.root).parts[:-1] if "=" in part
    )
    return tuple(
        (unquote(key), None if value == HIVE_NULL else unquote(value)) for key, value in pairs
    )


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(mode), "a special file")


def _endings(asked: str) -> str:
    wanted = [suffix for suffix, format_ in FORMATS.items() if asked in ("auto", format_)]
    packed = "" if asked == "parquet" else " (CSV and JSONL also with .gz or .zst)"
    return " ".join(wanted) + packed


def _nothing(path: str, asked: str) -> DataError:
    folder = Path(path)
    names = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    seen = f"; found only {_some(names)}" if names else ""
    return DataError(
        f"{path}: no input files{seen}; looked for names ending in {_endings(asked)}",
        hint="Check input.path. Names that begin with . or _ are left out.",
    )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _check_one_format(files: Sequence[InputFile]) -> None:
    first = files[0]
    for file in files:
        if file.format != first.format:
            raise DataError(
                f"{first.path} is {first.format}, {file.path} is {file.format}; expected one format",
                hint=f"Set input.format: {first.format}, or name the files by a glob.",
            )


def _check_no_repeats(files: Sequence[InputFile]) -> None:
    seen: dict[tuple[int, int], Path] = {}
    for file in files:
        other = seen.setdefault(file_identity(file.path), file.path)
        if other is not file.path:
            raise DataError(
                f"{file.path}: is named twice (the same file as {other})",
                hint="Name each file once in input.path.",
            )


def _check_partitions(files: Sequence[InputFile]) -> None:
    first = files[0]
    for file in files:
        keys, expected = [k for k, _ in file.partitions], [k for k, _ in first.partitions]
        if keys != expected:
            raise DataError(
                f"{file.path}: lies in folders for {_keys(keys)}, but {first.path} in folders for {_keys(expected)}",
                hint="All files need the same key=value folders.",
            )
        if len(set(keys)) != len(keys):
            raise DataError(f"{file.path}: two key=value folders have the same key")


def _keys(keys: Sequence[str]) -> str:
    return ", ".join(f"{key}=" for key in keys) or "no key=value"
