"""What `plan` prints about a converted model, without loading it."""

from dataclasses import dataclass
from pathlib import Path

from batchgen.engines.contract import Estimate, MemoryEstimate, Origin
from batchgen.engines.openvino.invariance_record import known_invariance
from batchgen.engines.openvino.openvino_capacity import OpenvinoCapacity, plan_capacity
from batchgen.job.spec import Batching, ModelSpec
from batchgen.planning.batches import BatchLimits
from batchgen.planning.kv_cache_plan import Workers


@dataclass(frozen=True, slots=True)
class OpenvinoEstimate(Estimate):
    """Estimate for a converted model; sizes are bytes.

    Attributes:
        variance: how neighbors change a row, as measured by an earlier run; empty if they do not.
        measured: whether an earlier run has measured it.
    """

    capacity: OpenvinoCapacity
    variance: str = ""
    measured: bool = False

    def model_facts(self, origin: Origin) -> list[str]:
        stored = self.capacity.header.stored_as
        return [
            f"OpenVINO, {stored} weights",
            f"computed in {self.capacity.dtype} ({origin('model.dtype')})",
            self.device,
            *([] if self.measured else ["batch invariance measured at first load"]),
        ]

    def warnings(self) -> list[str]:
        return [f"not batch-invariant: {self.variance}"] if self.variance else []

    def batch_lines(self, origin: Origin) -> list[str]:
        return [
            f"none: rows enter and leave at every step, up to {self.capacity.rows:,} at a time "
            f"({origin('batching.max_rows')})",
            f"room for {self.capacity.tokens:,} tokens ({origin('batching.max_tokens')})",
        ]

    def memory(self, *, batch_tokens: int, job_tokens: int) -> MemoryEstimate:
        del batch_tokens
        capacity = self.capacity
        cache = capacity.kv_bytes_per_token * min(capacity.tokens, job_tokens)
        parts = (("weights", capacity.weight_bytes), ("KV cache at most", cache))
        return MemoryEstimate(parts, capacity.kv_bytes_per_token, capacity.free_bytes)


def estimate_openvino(folder: Path, model: ModelSpec, batching: Batching) -> OpenvinoEstimate:
    """Estimate from the graph, config.json and the measurement of an earlier run; raises as `plan_capacity`."""
    capacity = plan_capacity(folder, model, batching)
    known = known_invariance(folder, capacity)
    return OpenvinoEstimate(
        device="cpu",
        limits=BatchLimits(capacity.rows, capacity.tokens, batching.sort),
        workers=Workers(1, "OpenVINO computes with all cores in one process"),
        capacity=capacity,
        variance="" if known is None or known.invariant else known.reason,
        measured=known is not None,
    )
