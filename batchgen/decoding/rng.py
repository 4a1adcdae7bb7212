"""Random numbers that depend on the row and the step only, not on the batch.

    row_seed(run seed, row id, sample) -> 63-bit seed of one answer     (a keyed hash)
    uniforms(seeds, steps)             -> one number in [0, 1) each     (a counter-based generator)

There is no generator state: the number for step 40 of a row is computed from (seed, 40) alone, so a row gets
the same answer after a restart, in another order, or in another batch. The values are part of the format of a run:
changing them changes the answer of every sampled row, so tests pin some.
"""

from hashlib import blake2b

import numpy as np
import numpy.typing as npt

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def row_seed(run_seed: int, row_id: str, sample: int) -> int:
    """Seed of one answer: BLAKE2b of (row id, sample), keyed by `run.seed` (0 to 2**63 - 1), cut to 63 bits."""
    digest = blake2b(
        sample.to_bytes(8, "little") + row_id.encode("utf-8", "surrogatepass"),
        digest_size=8,
        key=run_seed.to_bytes(8, "little"),
        person=b"batchgen.row",
    ).digest()
    return int.from_bytes(digest, "little") >> 1


def uniforms(
    seeds: npt.NDArray[np.uint64], steps: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """One number in [0, 1) for each (seed, step), from the upper 53 bits of a 64-bit hash.

    The hash applies the output function of SplitMix64 (Steele, Lea, Flood 2014) to the step, then to its sum with
    the seed: streams of two rows can share single values by chance, as any two streams can, but no sequence.
    `seeds` and `steps` must have shapes that broadcast.
    """
    counter = _mix(steps.astype(np.uint64) * _GOLDEN + _GOLDEN)
    bits: npt.NDArray[np.uint64] = _mix(seeds + counter) >> np.uint64(11)
    return bits.astype(np.float64) * 2.0**-53


def _mix(value: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
