"""The libraries that every run needs, the extras, and the engines that users install themselves."""

import re
from collections import defaultdict
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version

from batchgen.doctor.finding import Finding, problem
from batchgen.engines.openvino.installed_openvino import installation_problem, installed_version
from batchgen.engines.vllm.installed_vllm import find_vllm

_DISTRIBUTION = "batchgen-llm"
_EXTRA = re.compile(r"""extra\s*==\s*["']([\w-]+)["']""")
_NAME = re.compile(r"[\w.-]+")
_FOR_DEVELOPERS = frozenset({"test"})


def check_libraries() -> Iterator[Finding]:
    """The dependencies of batchgen, by their own metadata."""
    core = [name for name, extra in _requirements() if not extra]
    missing = [name for name in core if _version(name) is None]
    if missing:
        text = f"not installed: {', '.join(missing)}"
        yield problem("libraries", text, f"Install them: pip install {' '.join(missing)}.")
    shown = ("transformers", "tokenizers", "pyarrow", "polars", "numpy")
    found = [f"{name} {number}" for name in shown if (number := _version(name))]
    yield Finding("libraries", "ok", " · ".join(found))


def check_extras() -> Iterator[Finding]:
    """Which extras are complete; a job that needs another one is rejected with the command that installs it."""
    packages: dict[str, list[str]] = defaultdict(list)
    for name, extra in _requirements():
        if extra and extra not in _FOR_DEVELOPERS:
            packages[extra].append(name)
    complete = [extra for extra, names in packages.items() if all(map(_version, names))]
    absent = [extra for extra in packages if extra not in complete]
    if complete:
        yield Finding("extras", "ok", ", ".join(complete))
    if absent:
        fix = f"Install what you need, such as: pip install 'batchgen-llm[{absent[0]}]'."
        yield Finding("extras", "note", f"not installed: {', '.join(absent)}", fix)


def check_engines() -> Iterator[Finding]:
    """The engines of the user: vLLM and OpenVINO, which decide their own versions."""
    vllm = find_vllm()
    found = [f"{vllm.distribution or 'vllm'} {vllm.version}"] if vllm else []
    if (openvino := installed_version()) and (wrong := installation_problem()):
        fix = "Update it: pip install -U openvino-genai."
        yield Finding("engines", "note", f"openvino {wrong}", fix)
    elif openvino:
        found.append(f"openvino-genai {openvino}")
    yield Finding("engines", "ok", " · ".join(["transformers (built in)", *found]))


def _requirements() -> list[tuple[str, str]]:
    """Name and extra of each requirement; the extra is empty for a core dependency. Empty in a bare checkout."""
    try:
        lines = requires(_DISTRIBUTION) or []
    except PackageNotFoundError:
        return []
    found = []
    for line in lines:
        name, marker = _NAME.match(line), line.partition(";")[2]
        if name is None or (not _EXTRA.search(marker) and marker and _version(name[0]) is None):
            continue  # a marker that is not an extra's: another version of Python, another system
        extra = _EXTRA.search(marker)
        found.append((name[0], extra[1] if extra else ""))
    return found


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
