"""The dtype in which a model is computed: what `model.dtype` stands for on a machine.

asked for in the job?                 ── yes ──>  that
auto: recorded when the run began?    ── yes ──>  that
a GPU?                                ── yes ──>  that of the checkpoint
a bfloat16 checkpoint, a processor that multiplies bfloat16, measured to be faster?
                                      ── yes ──>  bfloat16
                                      ── no  ──>  float32
"""

from dataclasses import dataclass
from typing import Protocol

from batchgen.job.spec import ModelSpec
from batchgen.planning.host_processor import BFLOAT16_FLAGS

DTYPES = ("float32", "float16", "bfloat16")
"""The dtypes that a job can name."""
LEAST_SPEEDUP = 1.1
"""How many times as fast as float32 bfloat16 must be: less is not worth its rounding."""


@dataclass(frozen=True, slots=True)
class ChosenDtype:
    """The dtype in which a model is computed; `reason` is a phrase."""

    dtype: str
    reason: str

    def __str__(self) -> str:
        return f"{self.dtype}: {self.reason}"

    def applied_to(self, spec: ModelSpec) -> ModelSpec:
        """The model section with this dtype in place of auto; unchanged if the job could not name it, which is left to the loader."""
        return spec.model_copy(update={"dtype": self.dtype}) if self.dtype in DTYPES else spec


class DtypeMachine(Protocol):
    """What the choice depends on besides the model. Each method is called only if its answer is needed."""

    def has_gpu(self, device: str) -> bool:
        """Whether `model.device` is a GPU here."""

    def bfloat16_flags(self) -> tuple[str, ...]:
        """Those flags of the processor that stand for bfloat16 products."""

    def bfloat16_speedup(self) -> float | None:
        """How many times as fast as float32 packed bfloat16 products are; None if torch has none here."""


def choose_dtype(
    spec: ModelSpec, checkpoint: str, machine: DtypeMachine, recorded: str | None = None
) -> ChosenDtype:
    """Choose the dtype of a model.

    Args:
        spec: the job's model section, or a judge's.
        checkpoint: the dtype of the model's files, such as bfloat16.
        machine: this machine.
        recorded: the dtype that a run is continued in, as in its record; `auto` in the record of a run that an earlier
            version began, which computed in float32 on every CPU. None for a new run.
    """
    if spec.dtype != "auto":
        return ChosenDtype(spec.dtype, "set by model.dtype")
    if recorded is not None and recorded != "auto":
        return ChosenDtype(recorded, _RECORDED)
    if checkpoint == "float32" or machine.has_gpu(spec.device):
        return ChosenDtype(checkpoint, _CHECKPOINT)
    if recorded is not None:
        return ChosenDtype("float32", _RECORDED)
    return _choose_for_cpu(checkpoint, machine)


def continuation_note(used: ChosenDtype, here: ChosenDtype) -> str:
    """What to report where a run is continued in another dtype than one that begins here; empty if they are equal."""
    if used.dtype == here.dtype:
        return ""
    return (
        f"this run continues in {used.dtype}, in which it began; "
        f"a new one would be computed in {here.dtype} on this machine ({here.reason})"
    )


_RECORDED = "the run began in it"
_CHECKPOINT = "the checkpoint's format"


def _choose_for_cpu(checkpoint: str, machine: DtypeMachine) -> ChosenDtype:
    if checkpoint != "bfloat16":
        return ChosenDtype("float32", f"the checkpoint's {checkpoint} is slower on a CPU")
    flags = machine.bfloat16_flags()
    if not flags:
        lacking = " nor ".join(BFLOAT16_FLAGS)
        return ChosenDtype(
            "float32",
            f"the checkpoint's bfloat16 is slow on a processor with neither {lacking}",
        )
    named, speedup = ", ".join(flags), machine.bfloat16_speedup()
    if speedup is None:
        reason = f"torch has no packed bfloat16 products on this processor ({named})"
        return ChosenDtype("float32", reason)
    measured = f"{speedup:.1f} times as fast as float32 on this processor ({named})"
    if speedup < LEAST_SPEEDUP:
        return ChosenDtype("float32", f"bfloat16 is only {measured}")
    return ChosenDtype("bfloat16", f"{_CHECKPOINT}, {measured}")
