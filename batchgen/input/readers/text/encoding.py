"""Encoding of a text file: set by name, or detected from its first bytes.

The detection tries a byte order mark, then strict UTF-8, then strict GB18030. It uses no letter statistics, which
mistake GBK for Korean in short files.

Files of Windows programs contain more characters than the standards that their encodings are named after: 0x80 is the
euro sign in cp936. So text is decoded as the encoding standard of the web (https://encoding.spec.whatwg.org) does:
the Windows code page where it contains the standard as a part, and what Python's codec lacks from a second codec.
"""

import codecs
import functools
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from batchgen.errors import DataError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SUPERSETS: Mapping[str, str] = MappingProxyType({
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "tis-620": "cp874",
})  # fmt: skip
"""Codecs that are read as another one, which contains all characters of theirs."""
_EXTRA_CODECS: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "big5": ("cp950", "big5hkscs"),
    "cp950": ("big5hkscs",),
    "big5hkscs": ("cp950",),
    "shift_jis": ("cp932",),
    "euc_kr": ("cp949",),
    "euc_jp": ("euc_jis_2004",),
})  # fmt: skip
"""Codecs for the characters that a codec lacks."""
_LONGEST_CHARACTER = 4
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
        name = _codec_name(setting)
        has_mark = any(head.startswith(mark) for mark, _ in _MARKS)
        if name in {"utf-16", "utf-32"} and not has_mark:
            # As the encoding standard of the web does, unless most of the bytes that are NUL come first.
            return name + ("-be" if head[::2].count(0) > head[1::2].count(0) else "-le")
        return _SUPERSETS.get(name, name)
    if (found := detected_encoding(head)) is not None:
        return found
    even, odd = head[::2].count(0), head[1::2].count(0)
    # Latin-1 has no printable character in 0x80-0x9f; Windows' code page has quotation marks and the euro sign there.
    western = "cp1252" if any(0x80 <= byte <= 0x9F for byte in head) else "latin-1"
    guess = "utf-16-le" if odd > even else "utf-16-be" if even else western
    broken = ", ".join(
        f"not {name.upper()}{where}"
        for name in ("utf-8", "gb18030")
        if (where := _first_broken(head, name))
    )
    raise DataError(
        f"{path}: unknown encoding: {broken or 'ASCII text with NUL bytes'}, and no byte order mark",
        hint="Correct that line if the rest has this encoding. Otherwise set input.csv.encoding, such as to "
        f"{guess}.",
    )


def detected_encoding(head: bytes) -> str | None:
    """Name of the codec that the first bytes of a file fit; None if no codec that is tried does."""
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    if head.count(0) <= _MOST_NULS * len(head):
        if _decoded(head, "utf-8") is not None:
            return "utf-8"
        chinese = _decoded(head, "gb18030")
        if chinese is not None and _is_plausible_chinese(chinese):
            return "gb18030"
    return None


def new_decoder(encoding: str) -> codecs.IncrementalDecoder:
    """A strict decoder for an encoding from `find_encoding`."""
    return codecs.getincrementaldecoder(encoding)(_error_handler(encoding))


@functools.cache
def _error_handler(encoding: str) -> str:
    """Name of the error handler that decodes the characters which the codec lacks."""

    def decode_extra(error: UnicodeError) -> tuple[str, int]:
        if not isinstance(error, UnicodeDecodeError):
            raise error
        if encoding == "gb18030" and error.object[error.start] == 0x80:
            return "€", error.start + 1
        if encoding.startswith(("cp125", "cp874")) and error.object[error.start] < 0xA0:
            return chr(error.object[error.start]), error.start + 1
        for size in range(1, _LONGEST_CHARACTER + 1):
            character = error.object[error.start : error.start + size]
            for codec in _EXTRA_CODECS.get(encoding, ()):
                if len(character) == size and (text := _decoded_whole(character, codec)):
                    return text, error.start + size
        raise error

    name = f"batchgen-{encoding}"
    codecs.register_error(name, decode_extra)
    return name


def _decoded_whole(character: bytes, codec: str) -> str | None:
    try:
        return character.decode(codec)
    except UnicodeDecodeError:
        return None


def _first_broken(head: bytes, encoding: str) -> str:
    """The place of the first bytes that are not of an encoding, such as ` (byte 0xff in line 3)`."""
    try:
        new_decoder(encoding).decode(head, final=False)
    except UnicodeDecodeError as error:
        before = head[: error.start].decode(encoding, "replace")
        return f" (byte 0x{error.object[error.start]:02x} in line {count_lines([before]) + 1})"
    return ""


def count_lines(texts: Iterable[str]) -> int:
    """Number of line breaks (LF, CRLF or CR) in a text that comes in pieces."""
    lines = io.IncrementalNewlineDecoder(None, translate=True)
    return sum(lines.decode(text).count("\n") for text in texts) + lines.decode(
        "", final=True
    ).count("\n")


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
        return new_decoder(encoding).decode(head, final=False)
    except UnicodeDecodeError:
        return None


def _is_plausible_chinese(text: str) -> bool:
    """Whether most characters beyond ASCII are among the 7,445 of GB2312, which are common in Chinese text.

    Two letters of Latin-1, read as one GB18030 character, are nearly always outside of it: "Müller" gives 黮.
    """
    beyond = [char for char in text if ord(char) > 127 and char != "€"]
    common = "".join(beyond).encode("gb2312", "ignore").decode("gb2312")
    return bool(beyond) and len(common) >= _COMMON_SHARE * len(beyond)
