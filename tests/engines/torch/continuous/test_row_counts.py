"""Which row counts a step is computed at."""

from collections.abc import Mapping, Sequence

import pytest

from batchgen.engines.torch.continuous.row_counts import ProductRows, choose_row_counts

ALL = (4, 8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512)
MEASURED: Mapping[str, Sequence[Sequence[int]]] = {
    "2048 x 1024": [[4, 8, 16, 32, 384, 512], [48, 64, 96, 128, 192, 256]],
    "1024 x 3072": [[4, 8, 16, 32], [48, 64, 96, 128], [192, 256, 384, 512]],
    "4096 x 4096": [[4, 8, 16, 32], [48, 64, 96, 128, 256], [192], [384, 512]],
}
"""Groups of two products in bfloat16 on a processor with AMX, and of one in which 192 rows stand alone."""


def bits(groups: Sequence[Sequence[int]]) -> dict[int, object]:
    return {count: number for number, group in enumerate(groups) for count in group}


@pytest.mark.parametrize(
    ("rows", "pieces"),
    [
        (1, [48]),
        (48, [48]),
        (49, [64]),
        (64, [64]),
        (256, [256]),
        (257, [256, 48]),
        (900, [256, 256, 256, 256]),
        (768, [256, 256, 256]),
        (0, []),
    ],
)
def test_rows_are_cut_into_pieces_of_the_counts(rows: int, pieces: list[int]) -> None:
    counts = ProductRows((48, 64, 256))
    assert counts.cut(rows) == pieces
    assert counts.padded(rows) == sum(pieces) >= rows
    # The forward pads once; its products cut the padded rows into the same pieces.
    assert counts.cut(counts.padded(rows)) == pieces


@pytest.mark.parametrize(
    ("shapes", "chosen"),
    [
        (["2048 x 1024"], (48, 64, 96, 128, 192, 256)),
        (["2048 x 1024", "1024 x 3072"], (48, 64, 96, 128)),
        (["2048 x 1024", "4096 x 4096"], (48, 64, 96, 128, 256)),
        (list(MEASURED), (48, 64, 96, 128)),
    ],
)
def test_the_cheapest_group_that_all_products_have_is_chosen(
    shapes: list[str], chosen: tuple[int, ...]
) -> None:
    found = choose_row_counts([bits(MEASURED[shape]) for shape in shapes])
    assert found is not None
    assert found.counts == chosen


def test_without_groups_every_count_is_as_good() -> None:
    found = choose_row_counts([bits([ALL]), bits([ALL])])
    assert found is not None
    assert found.counts == ALL


def test_a_count_at_which_a_product_varies_is_not_used() -> None:
    found = choose_row_counts([bits([ALL]), bits([[4, 64, 256]])])
    assert found is not None
    assert found.counts == (4, 64, 256)
    assert choose_row_counts([bits([[4, 8]]), bits([[64]])]) is None
    assert choose_row_counts([]) is None
