r"""Whether an answer is mathematically equal to the reference, through math-verify and sympy: `5 + 3x` and `3x + 5`.

math-verify limits its time by a signal, which works in the main thread alone and cannot end every computation of sympy.
Comparisons therefore run in a process of their own (`math_worker.py`), which a signal ends.
"""

import json
import os
import re
import subprocess
import sys
import weakref
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Annotated, Any, Literal

from pydantic import Field

from batchgen.metrics.base import (
    Answer,
    MetricOptions,
    MetricType,
    Spec,
    no_answer_found,
    stored_form,
    unscored,
)
from batchgen.metrics.number.rules import answer_text
from batchgen.metrics.optional import require_package
from batchgen.records import Score

_MARKED = re.compile(r"\$|\\boxed|\\\(|\\\[|\\begin|####")
_WORD = re.compile(
    r"(?<![\\A-Za-z])(?!(?:sin|cos|tan|log|exp|sqrt|cot|sec|csc|max|min|gcd|lcm|mod)\b)[A-Za-z]{3,}"
)
_FORMULA = re.compile(r"[0-9=+*/^\\()<>-]|^\s*[A-Za-z]\s*$")
_LONGEST = 2_000


class MathEqualOptions(MetricOptions):
    r"""The expression that the response gives equals the reference's, by algebra. Needs the extra `math`.

    Compares with math-verify: `5 + 3x` equals `3x + 5`, `\sqrt{8}` equals `2\sqrt{2}`, `(3, 4)`, sets, intervals and
    equations are read. Takes what is in `\boxed{}` or follows `the answer is`, else the last formula. For plain numbers use
    `number`, which is exact and fast.
    """

    type: Literal["math_equal"] = "math_equal"
    timeout: Annotated[float, Field(gt=0, le=60)] = 5.0
    """Seconds of processor time for one response. A comparison that takes longer is stopped, and the row is not scored."""


class MathProcess:
    """The process that compares; started with the first comparison and again after one that was stopped."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._owner = 0
        self._stopper: weakref.finalize[..., MathProcess] | None = None
        self._lock = Lock()

    def compare(self, request: dict[str, Any]) -> dict[str, Any]:
        """The result of `math_worker.py`; {"problem": "timeout"} if the process ended."""
        with self._lock:
            process = self._running()
            try:
                assert process.stdin
                assert process.stdout
                process.stdin.write(json.dumps(request) + "\n")
                process.stdin.flush()
                line = process.stdout.readline()
            except OSError:
                line = ""
            if not line:
                self._stop()
                return {"problem": "timeout"}
            result: dict[str, Any] = json.loads(line)
            return result

    def _stop(self) -> None:
        if self._stopper is not None:
            self._stopper()
        self._process = self._stopper = None

    def _running(self) -> "subprocess.Popen[str]":
        if (
            self._process is not None
            and self._owner == os.getpid()
            and self._process.poll() is None
        ):
            return self._process
        if self._owner == os.getpid():
            self._stop()
        worker = Path(__file__).with_name("math_worker.py")
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(worker)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # its messages may repeat text of rows
            text=True,
            encoding="utf-8",
        )
        self._owner = os.getpid()
        self._stopper = weakref.finalize(self, _end, self._process, self._owner)
        return self._process


def _end(process: "subprocess.Popen[str]", owner: int) -> None:
    """End a process; only the one that started it may do so, not its fork."""
    if owner == os.getpid():
        process.kill()
        process.communicate()


@dataclass(frozen=True, slots=True)
class MathEqual:
    """1 if the expression of the response equals that of any reference."""

    spec: Spec
    options: MathEqualOptions
    process: MathProcess = field(default_factory=MathProcess)

    def score(self, answer: Answer) -> Score:
        """Score an answer. The stored answer is the expression as the response has it."""
        if not answer.text.strip():
            return no_answer_found(self.spec, answer)
        found = self.process.compare(
            {
                "references": [_formula(one) for one in answer.references],
                "response": _formula(answer.text),
                "seconds": self.options.timeout,
            }
        )
        problem = found.get("problem")
        if problem == "answer":
            return no_answer_found(self.spec, answer)
        if problem == "reference":
            return unscored(self.spec, "unparsed", "reference")
        if problem is not None:
            return unscored(self.spec, "error", problem)
        return Score(self.spec.name, float(found["equal"]), "ok", stored_form(found["answer"]))


def _formula(text: str) -> str:
    """The text as math-verify gets it: the answer in dollars, so that `3x + 5` is read as a whole, not as 3."""
    text = text.encode("utf-8", "replace").decode("utf-8")[-_LONGEST:].strip()
    if "\\boxed" in text:
        return text
    answer = (answer_text(text) or text).strip().rstrip(".。").replace("**", "").strip("`\"' ")
    if _MARKED.search(answer):
        return answer
    word = _WORD.search(answer)
    formula = answer[: word.start()].rstrip(" ,;:(") if word else answer
    is_formula = _FORMULA.search(formula) is not None and "\n" not in formula
    return f"${formula}$" if is_formula else text


def _math_equal(spec: Spec, options: MathEqualOptions) -> MathEqual:
    if find_spec("math_verify") is None:
        require_package("math_verify", "math")
    return MathEqual(spec, options)


MATH_EQUAL = MetricType(MathEqualOptions, _math_equal, needs="references")
