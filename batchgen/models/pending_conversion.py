"""Whether a run will convert its model first, and what is known about that model before."""

from pathlib import Path

from batchgen.errors import ModelError
from batchgen.models.demo.demo_model import DEMO_MODELS
from batchgen.models.formats.gguf_header import read_gguf_header
from batchgen.models.formats.gguf_model import converted_folder, is_gguf_file
from batchgen.models.formats.marker import is_intact


def heads_of_pending_conversion(path: str | None, cache: Path) -> tuple[int, int, int] | None:
    """Query heads, kv heads and numbers of a key of the model; None if it is not converted now, or they are not known."""
    if path is None:
        return None
    if demo := DEMO_MODELS.get(path):
        return None if is_intact(demo.folder(cache)) else demo.heads
    if not is_gguf_file(path):
        return None
    file = Path(path).expanduser()
    try:
        return None if converted_folder(file, cache) else read_gguf_header(file).heads
    except ModelError:  # what is wrong with the file is reported when the model is looked for
        return None
