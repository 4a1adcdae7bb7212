"""Input files: resolves paths, folders, globs and lists to regular files of one format.

A folder means all files in it, at any depth, that have a suffix of the format (`.parquet` `.pq`, `.csv` `.tsv`,
`.jsonl` `.ndjson`, `.json`, `.xlsx`; text also with `.gz` or `.zst`), sorted by path. Names that begin with a dot or an
underscore are skipped, and so are `.json` and `.xlsx` files in a folder with files of another format, which often describe them.
"""

import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

from batchgen.errors import BatchgenError, DataError
from batchgen.input.paths import PathMatch, expand_path, file_identity, missing_path_error
from batchgen.input.remote_files import stage_objects
from batchgen.job.spec import Input
from batchgen.storage.remote.bucket import RemoteObject
from batchgen.storage.remote.object_url import is_object_url

FileFormat = Literal["parquet", "csv", "jsonl", "json", "excel"]
Compression = Literal["none", "gzip", "zstd"]

FORMATS: dict[str, FileFormat] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".xlsx": "excel",
    ".xlsm": "excel",
}
COMPRESSIONS: dict[str, Compression] = {".gz": "gzip", ".zst": "zstd"}
COMPRESSED_FORMATS: dict[FileFormat, str] = {"parquet": "Parquet", "excel": "Excel"}
"""Formats that compress by themselves."""
SIDE_FORMATS: frozenset[FileFormat] = frozenset({"json", "excel"})
"""Formats of files whose files in a folder often only describe the data."""
HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
_FORMAT_NAMES: dict[str, FileFormat] = {name: name for name in FORMATS.values()}
_SPECIAL = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}

_UNPACK = "Unpack it first, or compress the file itself with gzip or zstd."
_HINTS = {
    ".tmp": "Wait if it is still being written. Set input.format if it is complete.",
    ".part": "Wait if it is still being written. Set input.format if it is complete.",
    ".xls": "Save it as CSV UTF-8.",
    ".ods": "Save it as CSV UTF-8.",
} | dict.fromkeys(
    (".zip", ".bz2", ".xz", ".lz4", ".tar", ".tgz", ".7z", ".rar", ".br", ".z", ".lz", ".sz"),
    _UNPACK,
)


@dataclass(frozen=True, slots=True)
class InputFile:
    """An input file, as it was when it was found.

    Attributes:
        name: path relative to the folder of the input: that of `input.path`, or of the fixed start of a glob. It is the same
            after the folder was moved.
        size: bytes on disk.
        modified_ns: time of the last change, nanoseconds since 1970.
        partitions: hive columns from the names of its folders, such as (("lang", "zh"),); None is a null.
        remote: the object that `path` is a copy of; None for a file of this machine.
    """

    path: Path
    name: str
    format: FileFormat
    size: int
    modified_ns: int
    compression: Compression = "none"
    partitions: tuple[tuple[str, str | None], ...] = ()
    remote: RemoteObject | None = None

    @property
    def label(self) -> str:
        """The file in messages: its path, or the address of the object."""
        return str(self.remote.url if self.remote else self.path)

    @property
    def place(self) -> str:
        """Its folder or prefix, in messages."""
        return self.label.rpartition("/")[0]

    def check_unchanged(self) -> None:
        """Raise DataError if size or time of the file have changed."""
        try:
            now = self.path.stat()
        except OSError as error:
            raise DataError(f"{self.path}: can no longer be read: {error.strerror}") from error
        if (now.st_size, now.st_mtime_ns) != (self.size, self.modified_ns):
            raise DataError(
                f"{self.path}: changed while batchgen was using it "
                f"({self.size:,} bytes before, {now.st_size:,} now)",
                hint="Run again. Write new input to new files.",
            )


def find_files(spec: Input) -> tuple[InputFile, ...]:
    """The files of `input.path`, all of one format, in reading order; objects are copied to this machine.

    Raises:
        DataError: no file, a special file, a symlink loop, several formats, or a file given twice.
        BatchgenError: an object store does not answer, or rejects the credentials.
    """
    paths = (spec.path,) if isinstance(spec.path, str) else spec.path
    files: list[InputFile] = []
    for path in paths:
        matches = expand_path(path)
        selected = [file for m in matches if (file := _input_file(m, spec.format)) is not None]
        if not selected:
            raise _no_files(path, spec.format)
        files += selected if matches[0].is_explicit else _without_side_files(selected)
    _check_one_format(files)
    _check_partitions(files)
    files = _with_copies(files)
    _check_no_repeats(files)
    return tuple(files)


def _with_copies(files: Sequence[InputFile]) -> list[InputFile]:
    """The files, each remote one with the path of its copy."""
    objects = [file.remote for file in files if file.remote is not None]
    copies = iter(stage_objects(objects) if objects else ())
    return [replace(file, path=next(copies)) if file.remote else file for file in files]


def _without_side_files(files: Sequence[InputFile]) -> Sequence[InputFile]:
    """The files of a folder without those in SIDE_FORMATS, if there are others."""
    return [file for file in files if file.format not in SIDE_FORMATS] or files


def _format_of(name: str) -> tuple[FileFormat | None, Compression]:
    suffixes = [suffix.lower() for suffix in Path(name).suffixes[-2:]]
    compression: Compression = "none"
    if suffixes and suffixes[-1] in COMPRESSIONS:
        compression = COMPRESSIONS[suffixes.pop()]
    return FORMATS.get(suffixes[-1]) if suffixes else None, compression


def _input_file(match: PathMatch, required: str) -> InputFile | None:
    """The file as input; None for a file of a folder with the suffix of another format."""
    path = match.path
    by_name, compression = _format_of(path.name)
    format_ = by_name if required == "auto" else _FORMAT_NAMES[required]
    if not match.is_explicit and (by_name is None or by_name != format_):
        return None
    if format_ is None:
        suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
        known = [_HINTS[suffix] for suffix in reversed(suffixes) if suffix in _HINTS]
        raise DataError(
            f"{match.label}: unknown format; expected a name that ends in {_suffixes('auto')}",
            hint=next(iter(known), "Set input.format: parquet, csv, jsonl, json or excel."),
        )
    if format_ in COMPRESSED_FORMATS and compression != "none":
        raise DataError(
            f"{match.label}: {COMPRESSED_FORMATS[format_]} inside {compression} cannot be read",
            hint=f"Unpack it. {COMPRESSED_FORMATS[format_]} files are compressed internally.",
        )
    size, modified_ns = _size_and_time(match)
    return InputFile(
        path=path,
        name=path.relative_to(match.root).as_posix(),
        format=format_,
        size=size,
        modified_ns=modified_ns,
        compression=compression,
        partitions=_partitions(match),
        remote=match.remote,
    )


def _size_and_time(match: PathMatch) -> tuple[int, int]:
    if match.remote is not None:
        return match.remote.size, match.remote.modified_ns
    path = match.path
    try:
        status = path.stat()
    except OSError as error:
        raise missing_path_error(path, error) from error
    if not stat.S_ISREG(status.st_mode):
        raise DataError(
            f"{path}: is {_SPECIAL.get(stat.S_IFMT(status.st_mode), 'a special file')}; expected a regular file",
            hint="Copy the data into a file: input is read more than once.",
        )
    return status.st_size, status.st_mtime_ns


def _partitions(match: PathMatch) -> tuple[tuple[str, str | None], ...]:
    folders = match.path.relative_to(match.root).parts[:-1]
    pairs = (part.split("=", 1) for part in folders if "=" in part)
    return tuple(
        (unquote(key), None if value == HIVE_NULL else unquote(value)) for key, value in pairs
    )


def _suffixes(required: str) -> str:
    wanted = [suffix for suffix, format_ in FORMATS.items() if required in ("auto", format_)]
    compressed = "" if required in COMPRESSED_FORMATS else " (text also with .gz or .zst)"
    return " ".join(wanted) + compressed


def _no_files(path: str, required: str) -> DataError:
    folder = Path(path)
    names = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    hint = "Check input.path. Names that begin with . or _ are skipped."
    if is_object_url(path):
        hint = "Check input.path: bucket, key and glob. Names that begin with . or _ are skipped."
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    found = f"; found only {', '.join(names[:3])}{more}" if names else ""
    return DataError(
        f"{path}: no input files{found}; expected names that end in {_suffixes(required)}",
        hint=hint,
    )


def _check_one_format(files: Sequence[InputFile]) -> None:
    first = files[0]
    for file in files:
        if file.format != first.format:
            raise DataError(
                f"{first.label} is {first.format}, {file.label} is {file.format}; expected one format",
                hint=f"Set input.format: {first.format}, or give a glob in input.path.",
            )


def _check_no_repeats(files: Sequence[InputFile]) -> None:
    seen: dict[tuple[int, int], InputFile] = {}
    for file in files:
        other = seen.setdefault(file_identity(file.path), file)
        if other is not file:
            raise DataError(
                f"{file.label}: is given twice (the same file as {other.label})",
                hint="Give each file once in input.path.",
            )


def _check_partitions(files: Sequence[InputFile]) -> None:
    first = files[0]
    for file in files:
        keys, expected = [k for k, _ in file.partitions], [k for k, _ in first.partitions]
        if keys != expected:
            raise DataError(
                f"{file.label}: is in folders for {_keys(keys)}, but {first.label} in folders for {_keys(expected)}",
                hint="Use the same key=value folders for all files.",
            )
        if len(set(keys)) != len(keys):
            raise DataError(f"{file.label}: two key=value folders have the same key")


def _keys(keys: Sequence[str]) -> str:
    return ", ".join(f"{key}=" for key in keys) or "no key=value"


@contextmanager
def urls_in_errors(files: Sequence[InputFile]) -> Iterator[None]:
    """Name the object instead of its copy in the errors of the block, which reads the files."""
    try:
        yield
    except BatchgenError as error:
        for file in files:
            if file.remote is not None:
                error.message = error.message.replace(str(file.path), file.label)
                error.hint = error.hint.replace(str(file.path), file.label)
        error.args = (error.message,)
        raise
