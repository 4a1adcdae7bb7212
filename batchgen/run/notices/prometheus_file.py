"""The file of `--prometheus`, for the textfile collector of node_exporter."""

import time
from importlib.util import find_spec
from pathlib import Path

from batchgen.errors import ExitCode, ResourceError
from batchgen.run.notices.run_notice import RunNotice
from batchgen.storage.durable import disk_errors


def require_prometheus(path: Path) -> None:
    """Check that the file can be written when the run ends.

    Raises:
        ResourceError: the extra is not installed, or the folder does not exist.
    """
    if find_spec("prometheus_client") is None:
        raise ResourceError(
            "--prometheus needs the package prometheus-client, which is not installed",
            hint="Install it: pip install 'batchgen-llm[prometheus]'.",
        )
    if not path.absolute().parent.is_dir():
        raise ResourceError(
            f"--prometheus {path}: the folder does not exist", hint="Create it, or name another."
        )


def write_prometheus(path: Path, notice: RunNotice) -> None:
    """Write the numbers of a run; replaces the file in one step.

    Raises:
        ResourceError: the disk refuses.
    """
    from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

    registry = CollectorRegistry()

    def gauge(name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"batchgen_run_{name}", text, ["job", *labels], registry=registry)

    gauge("exit_code", "Exit code of the last run.").labels(notice.job).set(notice.exit_code)
    gauge("end_time_seconds", "Unix time at which the last run ended.").labels(notice.job).set(
        time.time()
    )
    gauge("success", "1 if the last run ended with exit code 0.").labels(notice.job).set(
        notice.exit_code == ExitCode.DONE
    )
    if not notice.error:
        gauge("duration_seconds", "Seconds from the first row to the last.").labels(notice.job).set(
            notice.seconds
        )
    families = {
        "rows": ("Output rows of the last run.", "status", notice.rows),
        "tokens": ("Tokens of the last run.", "direction", notice.tokens),
        "gates": ("Gates of the last run.", "verdict", notice.gates),
        "metric": ("Value of a metric over all rows.", "metric", notice.metrics),
    }
    for name, (text, label, values) in families.items():
        family = gauge(name, text, label)
        for key, value in values.items():
            family.labels(notice.job, key).set(value)
    with disk_errors("cannot write", path):
        write_to_textfile(str(path), registry)
