"""A listing of the files of a model and its adapter that changes when one of them does."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from batchgen.job.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model's files. `listing`: hash of names, sizes and times of change; empty if a file disappeared during the scan."""

    folder: Path
    spec: ModelSpec
    listing: str

    @classmethod
    def scan(cls, folder: Path, spec: ModelSpec) -> "ModelFiles":
        digest = hashlib.sha256()
        folders = [folder, Path(spec.adapter)] if spec.adapter else [folder]
        try:
            for root in folders:
                for file in sorted(f for f in root.rglob("*") if f.is_file()):
                    seen = file.stat()
                    line = f"{file.relative_to(root)}\0{seen.st_size} {seen.st_mtime_ns} {seen.st_ctime_ns}\n"
                    digest.update(line.encode("utf-8", "surrogateescape"))
        except OSError:
            return cls(folder, spec, "")
        return cls(folder, spec, digest.hexdigest()[:32])

    def unchanged(self) -> bool:
        now = ModelFiles.scan(self.folder, self.spec).listing
        return bool(now) and now == self.listing
