"""What `model.dtype` stands for: a table of checkpoints, machines and records."""

from dataclasses import dataclass

import pytest

from batchgen.job.spec import ModelSpec
from batchgen.planning.dtype_choice import ChosenDtype, choose_dtype, continuation_note

AMX = ("amx_bf16", "avx512_bf16")


@dataclass
class Machine:
    """A machine with these flags, this speed-up and perhaps a GPU; None where a question is not expected."""

    flags: tuple[str, ...] | None = None
    speedup: float | None = -1.0
    gpu: bool | None = None

    def has_gpu(self, device: str) -> bool:
        assert self.gpu is not None
        return self.gpu and device != "cpu"

    def bfloat16_flags(self) -> tuple[str, ...]:
        assert self.flags is not None
        return self.flags

    def bfloat16_speedup(self) -> float | None:
        assert self.speedup != -1.0
        return self.speedup


AVX2 = Machine((), gpu=False)
FAST = Machine(AMX, 3.14, gpu=False)
NO_QUESTION = Machine()


@pytest.mark.parametrize(
    ("asked", "checkpoint", "machine", "recorded", "dtype", "reason"),
    [
        ("float16", "bfloat16", NO_QUESTION, None, "float16", "set by model.dtype"),
        ("bfloat16", "float32", NO_QUESTION, "float32", "bfloat16", "set by model.dtype"),
        ("auto", "float32", NO_QUESTION, None, "float32", "the checkpoint's format"),
        (
            "auto",
            "bfloat16",
            FAST,
            None,
            "bfloat16",
            "the checkpoint's format, 3.1 times as fast as float32 on this processor (amx_bf16, avx512_bf16)",
        ),
        (
            "auto",
            "bfloat16",
            Machine(("avx512_bf16",), 1.04, gpu=False),
            None,
            "float32",
            "bfloat16 is only 1.0 times as fast as float32 on this processor (avx512_bf16)",
        ),
        (
            "auto",
            "bfloat16",
            Machine(AMX, None, gpu=False),
            None,
            "float32",
            "torch has no packed bfloat16 products on this processor (amx_bf16, avx512_bf16)",
        ),
        (
            "auto",
            "bfloat16",
            AVX2,
            None,
            "float32",
            "the checkpoint's bfloat16 is slow on a processor with neither amx_bf16 nor avx512_bf16",
        ),
        (
            "auto",
            "float16",
            FAST,
            None,
            "float32",
            "the checkpoint's float16 is slower on a CPU",
        ),
        ("auto", "float16", Machine(gpu=True), None, "float16", "the checkpoint's format"),
        ("auto", "bfloat16", Machine(gpu=True), None, "bfloat16", "the checkpoint's format"),
        ("auto", "bfloat16", NO_QUESTION, "bfloat16", "bfloat16", "the run began in it"),
        ("auto", "bfloat16", NO_QUESTION, "float32", "float32", "the run began in it"),
        # A run of an earlier version.
        ("auto", "bfloat16", Machine(gpu=False), "auto", "float32", "the run began in it"),
        ("auto", "bfloat16", Machine(gpu=True), "auto", "bfloat16", "the checkpoint's format"),
    ],
)
def test_the_choice_and_its_reason(
    asked: str,
    checkpoint: str,
    machine: Machine,
    recorded: str | None,
    dtype: str,
    reason: str,
) -> None:
    spec = ModelSpec.model_validate({"path": "x", "dtype": asked})
    chosen = choose_dtype(spec, checkpoint, machine, recorded)
    assert chosen == ChosenDtype(dtype, reason)
    assert chosen.applied_to(spec).dtype == dtype
    assert str(chosen) == f"{dtype}: {reason}"


def test_a_gpu_is_not_used_if_the_job_names_the_cpu() -> None:
    machine = Machine((), gpu=True)
    spec = ModelSpec(path="x", device="cpu")
    assert choose_dtype(spec, "bfloat16", machine).dtype == "float32"


def test_a_dtype_that_no_job_can_name_is_left_to_the_loader() -> None:
    spec = ModelSpec(path="x")
    chosen = choose_dtype(spec, "float64", Machine(gpu=True))
    assert (chosen.dtype, chosen.applied_to(spec)) == ("float64", spec)


def test_a_run_that_continues_in_another_dtype_is_reported() -> None:
    used, here = ChosenDtype("bfloat16", "the run began in it"), ChosenDtype("float32", "slow")
    assert continuation_note(used, here) == (
        "this run continues in bfloat16, in which it began; "
        "a new one would be computed in float32 on this machine (slow)"
    )
    assert continuation_note(used, ChosenDtype("bfloat16", "fast")) == ""
