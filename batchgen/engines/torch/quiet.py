"""Suppresses transformers' messages, and shortens those of its errors."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import transformers
from transformers import PreTrainedConfig
from transformers.utils import logging


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress messages and progress bars of transformers in this context."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def first_line(error: BaseException) -> str:
    """Type of an error and the first line of its message, at most 300 characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300] if lines else 'no message'}"


def unknown_word(folder: Path, error: Exception) -> str:
    """The key of config.json whose value a look-up of transformers failed for, such as `hidden_act`; empty for other errors."""
    if not isinstance(error, KeyError):
        return ""
    config, _ = PreTrainedConfig.get_config_dict(folder, local_files_only=True)
    sections = [config, *(value for value in config.values() if isinstance(value, dict))]
    keys = [key for section in sections for key, value in section.items() if (value,) == error.args]
    version = f"transformers {transformers.__version__}"
    return f"config.json: {keys[0]}: {error.args[0]!r} is unknown to {version}" if keys else ""
