"""The name and flags of the processor, from files as Linux writes them."""

from pathlib import Path

import pytest

from batchgen.planning.host_processor import read_processor

XEON = """processor\t: 0
model name\t: Intel(R) Xeon(R) Platinum 8488C
flags\t\t: fpu avx2 avx512_bf16 amx_bf16 amx_tile

processor\t: 1
model name\t: another
flags\t\t: fpu
"""
ARM = "processor\t: 0\nBogoMIPS\t: 243.75\nFeatures\t: fp asimd bf16\n"


@pytest.mark.parametrize(
    ("text", "name", "flags"),
    [
        pytest.param(
            XEON, "Intel(R) Xeon(R) Platinum 8488C", ("amx_bf16", "avx512_bf16"), id="AMX"
        ),
        pytest.param(
            "model name: EPYC\nflags: avx512_bf16\n", "EPYC", ("avx512_bf16",), id="Zen 4"
        ),
        pytest.param("model name: EPYC\nflags: avx2\n", "EPYC", (), id="AVX2"),
        pytest.param(ARM, "", (), id="ARM"),
        pytest.param(None, "", (), id="no /proc"),
    ],
)
def test_name_and_bfloat16_flags(
    tmp_path: Path, text: str | None, name: str, flags: tuple[str, ...]
) -> None:
    if text is not None:
        (tmp_path / "proc").mkdir()
        (tmp_path / "proc" / "cpuinfo").write_text(text)
    processor = read_processor(tmp_path)
    assert (processor.name, processor.bfloat16_flags) == (name, flags)
