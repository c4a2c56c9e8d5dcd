"""From sums along the diagonals of tiles to the gradient of the weights of the distances."""

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad


def add_diagonal_sums(
    gradient: Float[Tensor, " distances"], tiles: Float[Tensor, "sequences rows columns 2 block"], first_row: int
) -> None:
    """Add to ``gradient`` what tiles of pairs hold for each distance; distances beyond ``L - 1`` count as ``L - 1``.

    ``tiles[:, i, j, k, c]`` belongs to the distance ``(j - i - k) * block + c - first_row`` (key minus query). All sums
    run in a fixed order.
    """
    rows, block = tiles.shape[1], tiles.shape[-1]
    first, second = tiles.sum(dim=0).unbind(dim=2)  # (rows, columns, block)
    by_offset = _sum_equal_offsets(first)  # offsets -rows ... columns
    by_offset[:-1] += _sum_equal_offsets(second)[1:]
    sums = by_offset.flatten()
    lowest = -rows * block - first_row
    reach = gradient.shape[0] // 2
    begin = min(max(-reach - lowest, 0), sums.shape[0])
    end = max(min(reach + 1 - lowest, sums.shape[0]), 0)
    gradient[0] += sums[:begin].sum()
    gradient[-1] += sums[end:].sum()
    if begin < end:
        place = lowest + begin + reach
        gradient[place : place + end - begin] += sums[begin:end]


def _sum_equal_offsets(
    blocks: Float[Tensor, "rows columns block"],
) -> Float[Tensor, "offsets block"]:
    """Sum the blocks of equal ``column - row``, from ``-rows`` to ``columns``.

    Rows of ``columns + rows`` laid one behind the other and read as rows of one more: row ``i`` moves by ``i``.
    """
    rows, columns, block = blocks.shape
    line = pad(blocks, (0, 0, 0, rows)).reshape(-1, block)
    return pad(line, (0, 0, rows, 0)).view(rows, columns + rows + 1, block).sum(dim=0)
