"""OpenVINO sends an event to a server on the internet when it is imported; not where batchgen imports it."""

import subprocess
import sys

import pytest

pytest.importorskip("openvino_genai", reason="needs OpenVINO GenAI")

PROGRAM = """
import batchgen.engines.openvino.open_openvino
import openvino.tools.ovc
print(type(openvino.tools.ovc.telemetry).__module__)
"""


@pytest.mark.slow
def test_importing_the_engine_loads_a_telemetry_that_sends_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "openvino.tools.ovc.telemetry_stub"
