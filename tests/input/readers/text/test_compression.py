"""gzip and zstd: frames of every kind are read, or refused by their cause."""

import gzip
import os
import struct
import sys
import zlib
from pathlib import Path

import pytest

from batchgen.errors import DataError
from batchgen.input.sources import open_source
from batchgen.job.spec import Input

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LINES = [f'{{"id": {n}, "q": "question {n}"}}\n'.encode() for n in range(6)]
ALL = b"".join(LINES)


def ids_of(path: Path) -> list[str]:
    source = open_source(Input(path=str(path)), seed=0)
    return [id_ for chunk in source.chunks(source.survey(), rows=100) for id_ in chunk.ids]


def frame(data: bytes, **options: int) -> bytes:
    settings: dict[int, int] = {
        zstd.CompressionParameter[name]: value for name, value in options.items()
    }
    return zstd.compress(data, options=settings)


def streamed(data: bytes, window_log: int) -> bytes:
    """A frame without the size of its content, as `zstd --long` writes from a pipe."""
    compressor = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: window_log})
    return compressor.compress(data, zstd.ZstdCompressor.FLUSH_BLOCK) + compressor.flush()


def skippable(data: bytes, number: int = 0) -> bytes:
    return struct.pack("<II", 0x184D2A50 + number, len(data)) + data


def bgzf(data: bytes) -> bytes:
    """A gzip member with the extra field of BGZF (SAM specification, section 4.1)."""
    deflate = zlib.compressobj(wbits=-15)
    body = deflate.compress(data) + deflate.flush()
    size = 12 + 6 + len(body) + 8
    header = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x06\0BC\x02\0" + struct.pack("<H", size - 1)
    return header + body + struct.pack("<II", zlib.crc32(data), len(data))


BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")

READ = {
    "gz: one member": gzip.compress(ALL),
    "gz: a member for each line": b"".join(map(gzip.compress, LINES)),
    "gz: members that end within lines": gzip.compress(ALL[:50]) + gzip.compress(ALL[50:]),
    "gz: an empty member": gzip.compress(ALL[:50]) + gzip.compress(b"") + gzip.compress(ALL[50:]),
    "gz: an empty member first": gzip.compress(b"") + gzip.compress(ALL),
    "gz: zeros at the end": gzip.compress(ALL) + b"\0" * 100_000,
    "gz: zeros between members": gzip.compress(ALL[:50]) + b"\0" * 9 + gzip.compress(ALL[50:]),
    "gz: byte order mark": gzip.compress(b"\xef\xbb\xbf" + ALL),
    "gz: a byte order mark in each member": b"".join(gzip.compress(b"\xef\xbb\xbf" + line) for line in LINES),
    "gz: BGZF": bgzf(ALL[:100]) + bgzf(ALL[100:]) + BGZF_END,
    "gz: stored": gzip.compress(ALL, 0),
    "gz: many small members": b"".join(gzip.compress(b"\n") for _ in range(9000)) + gzip.compress(ALL),
    "zst: one frame": frame(ALL),
    "zst: several frames": b"".join(map(frame, LINES)),
    "zst: an empty frame": frame(ALL[:50]) + frame(b"") + frame(ALL[50:]),
    "zst: pzstd": b"".join(skippable(struct.pack("<I", len(frame(line)))) + frame(line) for line in LINES),
    "zst: seekable, with a table at the end": frame(ALL[:99]) + frame(ALL[99:]) + skippable(b"x" * 40, 14),
    "zst: skippable frames alone before": skippable(b"", 15) + skippable(os.urandom(300_000), 3) + frame(ALL),
    "zst: checksum": frame(ALL, checksum_flag=1),
    "zst: zeros at the end": frame(ALL) + b"\0" * 512,
    "zst: --long=27": streamed(ALL, 27),
    "zst: --long=31": streamed(ALL, 31),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("upper", [False, True], ids=["lower", "upper"])
def test_read(name: str, upper: bool, tmp_path: Path) -> None:
    suffix = name.partition(":")[0]
    file_name = f"x.jsonl.{suffix}"
    path = tmp_path / (file_name.upper() if upper else file_name)
    path.write_bytes(READ[name])
    assert ids_of(path) == ["0", "1", "2", "3", "4", "5"]


def changed(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]


def beyond_the_window(data: bytes) -> bytes:
    """A frame whose header declares a window of 4 GiB."""
    assert data[4] & 0x20 == 0
    return data[:5] + bytes([(32 - 10) << 3]) + data[6:]


DICTIONARY = zstd.train_dict([b"question %d, answer %d" % (n, n * n) for n in range(2000)], 1000)
REFUSED = {
    "gz: text at the end": (gzip.compress(ALL) + b"GARBAGE", "7 bytes that are not gzip data follow"),
    "gz: text after zeros": (gzip.compress(ALL) + b"\0" * 9 + b"GARBAGE", "7 bytes that are not gzip data follow"),
    "gz: lines appended": (gzip.compress(ALL) + ALL * 9000, f"{len(ALL) * 9000:,} bytes that are not gzip"),
    "gz: zstd appended": (gzip.compress(ALL) + frame(ALL), "that are not gzip data follow"),
    "gz: nothing": (gzip.compress(b""), "is empty (0 bytes when decompressed)"),
    "gz: BGZF of nothing": (BGZF_END, "is empty (0 bytes when decompressed)"),
    "gz: 0 bytes": (b"", "is empty (0 bytes)"),
    "gz: zeros alone": (b"\0" * 100, "is not compressed, not gzip data"),
    "gz: plain text": (ALL, "is not compressed, not gzip data"),
    "gz: zstd": (frame(ALL), "is zstd data, not gzip data"),
    "gz: cut off": (gzip.compress(ALL)[:-3], "damaged or incomplete after 174"),
    "gz: second member cut off": (gzip.compress(ALL) + gzip.compress(ALL)[:5], "damaged or incomplete after 174"),
    "gz: second member of one byte": (gzip.compress(ALL) + b"\x1f", "damaged or incomplete after 174"),
    "gz: checksum": (changed(gzip.compress(ALL), -6), "damaged or incomplete"),
    "gz: compressed bytes": (changed(gzip.compress(ALL), 30), "damaged or incomplete"),
    "zst: text at the end": (frame(ALL) + b"GARBAGE", "7 bytes that are not zstd data follow"),
    "zst: nothing": (frame(b""), "is empty (0 bytes when decompressed)"),
    "zst: skippable alone": (skippable(b"abc"), "is empty (0 bytes when decompressed)"),
    "zst: plain text": (ALL, "is not compressed, not zstd data"),
    "zst: gzip": (gzip.compress(ALL), "is gzip data, not zstd data"),
    "zst: cut off": (frame(ALL)[:-3], "damaged or incomplete"),
    "zst: skippable frame cut off": (frame(ALL) + skippable(b"abcdef")[:-2], "damaged or incomplete"),
    "zst: compressed bytes": (changed(frame(ALL, checksum_flag=1), -1), "damaged or incomplete"),
    "zst: window of 4 GiB": (beyond_the_window(streamed(ALL, 31)), "needs a zstd window of 4,096 MiB; the limit is 2,048 MiB"),
    "zst: dictionary": (zstd.compress(ALL, zstd_dict=DICTIONARY), f"with the zstd dictionary {DICTIONARY.dict_id}"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, tmp_path: Path) -> None:
    content, message = REFUSED[name]
    path = tmp_path / f"x.jsonl.{name.partition(':')[0]}"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        ids_of(path)
    assert message in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_every_cut_is_an_error(suffix: str, tmp_path: Path) -> None:
    whole = gzip.compress(ALL) if suffix == "gz" else frame(ALL, checksum_flag=1)
    path = tmp_path / f"x.jsonl.{suffix}"
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError):
            ids_of(path)
