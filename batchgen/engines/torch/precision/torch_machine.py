"""This machine as the choice of a dtype sees it: see `planning/dtype_choice.py`.

torch is imported by the questions that need it, so that most choices take milliseconds.
"""

from batchgen.planning.address_space import require_room_for_torch
from batchgen.planning.host_processor import read_processor
from batchgen.storage.cache_folder import cache_folder


class TorchMachine:
    """The processor, and the GPUs that torch finds."""

    def has_gpu(self, device: str) -> bool:
        """Whether `model.device` is a GPU here."""
        if device != "auto":
            return device != "cpu"
        require_room_for_torch()
        import torch  # noqa: PLC0415  see above

        return torch.cuda.is_available()

    def bfloat16_flags(self) -> tuple[str, ...]:
        return read_processor().bfloat16_flags

    def bfloat16_speedup(self) -> float | None:
        """As measured; None without packed bfloat16 products."""
        require_room_for_torch()
        from batchgen.engines.torch.continuous.forward.products.kept_speedup import (  # noqa: PLC0415  see above
            kept_speedup,
        )
        from batchgen.engines.torch.precision.product_speed import (  # noqa: PLC0415  see above
            measure_bfloat16_speedup,
            packed_bfloat16_works,
        )

        if not packed_bfloat16_works():
            return None
        return kept_speedup(cache_folder() / "products", read_processor(), measure_bfloat16_speedup)
