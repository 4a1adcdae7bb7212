"""Encoding of a text file: set by name, or detected from its first bytes.

The detection tries a byte order mark, then strict UTF-8, then strict GB18030. It uses no letter statistics, which
mistake GBK for Korean in short files.
"""

import codecs
from pathlib import Path

from batchgen.errors import DataError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_COMMON_SHARE = 0.75
"""Least share of common Chinese characters among those beyond ASCII."""
_MOST_NULS = 0.2
"""ASCII text in UTF-16 is valid UTF-8, but half of its bytes are NULs."""


def find_encoding(setting: str, head: bytes, path: Path) -> str:
    """Name of the codec of a file.

    Args:
        setting: "auto" or the name of a codec.
        head: the first bytes of the file; they may end inside a character.
        path: for messages.

    Raises:
        DataError: an unknown codec, or "auto" and none fits.
    """
    if setting != "auto":
        return _codec_name(setting)
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    even, odd = head[::2].count(0), head[1::2].count(0)
    if even + odd <= _MOST_NULS * len(head):
        if _decoded(head, "utf-8") is not None:
            return "utf-8"
        chinese = _decoded(head, "gb18030")
        if chinese is not None and _is_plausible_chinese(chinese):
            return "gb18030"
    guess = "utf-16-le" if odd > even else "utf-16-be" if even else "latin-1"
    raise DataError(
        f"{path}{_first_broken(head)}: unknown encoding: neither UTF-8 nor GB18030 text, and no byte order mark",
        hint="Correct that line if the rest is UTF-8. Otherwise set input.csv.encoding, such as to "
        f"{guess}.",
    )


def _first_broken(head: bytes) -> str:
    """The first line that is not UTF-8, such as `:12`."""
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        return ":" + str(head.count(b"\n", 0, error.start) + 1)
    return ""


def _codec_name(setting: str) -> str:
    try:
        codec = codecs.lookup(setting)
        b"a".decode(setting, "ignore")
        codecs.getincrementaldecoder(setting)("strict")
    except (LookupError, ValueError, TypeError) as error:
        raise DataError(
            f"input.csv.encoding: unknown text encoding {setting!r}",
            hint="Set an encoding such as utf-8, utf-16, gb18030, gbk, big5, shift_jis, latin-1 or cp1252.",
        ) from error
    return codec.name


def _decoded(head: bytes, encoding: str) -> str | None:
    try:
        return codecs.getincrementaldecoder(encoding)("strict").decode(head, final=False)
    except UnicodeDecodeError:
        return None


def _is_plausible_chinese(text: str) -> bool:
    """Whether most characters beyond ASCII are among the 7,445 of GB2312, which are common in Chinese text.

    Two letters of Latin-1, read as one GB18030 character, are nearly always outside of it: "Müller" gives 黮.
    """
    beyond = [char for char in text if ord(char) > 127]
    common = "".join(beyond).encode("gb2312", "ignore").decode("gb2312")
    return len(common) >= _COMMON_SHARE * len(beyond)
