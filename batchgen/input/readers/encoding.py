"""Which encoding a text file has: asked for by name, or found from its first bytes.

Found are byte order marks, then UTF-8, then GB18030, each read strictly. Statistics over letters are not used: on
short files they take GBK for Korean. Knows nothing of CSV.
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
"""Of the characters beyond ASCII, how many have to be common Chinese ones."""
_MOST_NULS = 0.2
"""ASCII in UTF-16 is half NULs, and valid UTF-8."""


def find_encoding(asked: str, head: bytes, path: Path) -> str:
    """Name of the codec to read a file with.

    Args:
        asked: "auto" or the name of a codec.
        head: the first bytes of the file; they may end inside a character.
        path: for messages.

    Raises:
        DataError: no such text codec, or "auto" and none fits.
    """
    if asked != "auto":
        return _by_name(asked)
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
        f"{path}{_first_broken(head)}: its encoding is not known: neither UTF-8 nor GB18030 text, and no byte "
        "order mark",
        hint=f"Mend that line if the rest is UTF-8; else name the encoding in input.csv.encoding, such as {guess}.",
    )


def _first_broken(head: bytes) -> str:
    """The line that keeps a text from being UTF-8, as `:12`."""
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        line = head.count(b"\n", 0, error.start) + 1
        return f":{line}"
    return ""


def _by_name(asked: str) -> str:
    try:
        codec = codecs.lookup(asked)
        b"a".decode(asked, "ignore")
        codecs.getincrementaldecoder(asked)("strict")
    except (LookupError, ValueError, TypeError) as error:
        raise DataError(
            f"input.csv.encoding: {asked!r} is not a text encoding that is known here",
            hint="Names such as utf-8, utf-16, gb18030, gbk, big5, shift_jis, latin-1, cp1252 are.",
        ) from error
    return codec.name


def _decoded(head: bytes, encoding: str) -> str | None:
    try:
        return codecs.getincrementaldecoder(encoding)("strict").decode(head, final=False)
    except UnicodeDecodeError:
        return None


def _is_plausible_chinese(text: str) -> bool:
    """Whether most characters beyond ASCII are of GB2312, the 7,445 that Chinese text is written with.

    Two letters of Latin-1 read as one GB18030 character fall outside it, nearly always: "Müller" gives 黮.
    """
    beyond = [char for char in text if ord(char) > 127]
    common = "".join(beyond).encode("gb2312", "ignore").decode("gb2312")
    return len(common) >= _COMMON_SHARE * len(beyond)
