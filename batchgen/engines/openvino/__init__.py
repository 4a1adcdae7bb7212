"""OpenVINO GenAI: models that were converted for it, on CPUs."""

import sys

# Importing OpenVINO reports this to a server on the internet unless its telemetry package cannot be imported.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # Python's way to forbid an import
