"""Integer convolutions and pooling in PyTorch, exact; maps in the hardware's order ``(y, x, channel)``."""

from __future__ import annotations

import torch
from torch.nn import functional

from lmht.gen.integer_projection import IntegerProjection
from lmht.model.memory_order import plain_strides
from lmht.rtl.projection import Pooling

__all__ = ["GoldenProjection", "pool_levels"]

_WINDOW_ELEMENTS = 2**22  # of the windows that an int64 convolution copies at a time


def pool_levels(levels: torch.Tensor, pooling: Pooling | None, max_level: int) -> torch.Tensor:
    """Sum or maximum over windows of levels of shape (…, H, W, C) up to `max_level`; what fills no window is left out.

    Unsigned bytes stay so unless a sum may not fit; then the result is of int32.
    """
    if pooling is None:
        return levels
    rows, columns = pooling.size
    height, width = pooling.pooled(*levels.shape[-3:-1])
    if levels.dtype == torch.uint8 and pooling.max_level(max_level) > 255:
        levels = levels.to(torch.int32)
    combine = torch.add if pooling.kind == "sum" else torch.maximum
    pooled: torch.Tensor | None = None
    for y in range(rows):
        for x in range(columns):
            part = levels[..., y : rows * height : rows, x : columns * width : columns, :]
            pooled = part.clone() if pooled is None else combine(pooled, part, out=pooled)
    assert pooled is not None
    return pooled


def exact_type(bound: int) -> torch.dtype:
    """Fastest type in which integers up to `bound`, and all partial sums on the way, are exact."""
    if bound < 2**24:
        return torch.float32
    return torch.float64 if bound < 2**53 else torch.int64


class GoldenProjection:
    """One input of a layer: ``sum_{c,ky,kx} w[n,c,ky,kx] k[u,c,…] << shift`` of the pooled source.

    The sum of products is computed in the fastest type that holds every partial sum exactly, in whatever order they are
    added. An algorithm that multiplies anything else than levels and weights (Winograd, FFT) would not be exact: the
    library that has them, NNPACK, is turned off.

    Parameters
    ----------
    projection : IntegerProjection

    Attributes
    ----------
    reach : list of int
        Bound of the result's magnitude for every output channel.
    """

    def __init__(self, projection: IntegerProjection) -> None:
        self.projection = projection
        weights = torch.from_numpy(projection.weights.copy())
        sums = weights.abs().flatten(1).sum(dim=1).tolist()
        self.reach = [(projection.pooled_max_level * total) << projection.shift for total in sums]
        self.type = exact_type(max(self.reach) >> projection.shift)
        self._whole = projection.kernel == projection.pooled_shape[1:] and projection.padding == (0, 0)
        if self._whole and projection.groups == 1:
            self._weights = weights.permute(0, 2, 3, 1).flatten(1).t().to(self.type).contiguous()
        elif self.type == torch.int64:
            # (groups, KH KW C / groups, N / groups)
            parts = weights.permute(0, 2, 3, 1).reshape(
                projection.groups, len(weights) // projection.groups, -1
            )
            self._weights = parts.transpose(1, 2).contiguous()
        else:
            self._weights = weights.to(self.type).contiguous(memory_format=torch.channels_last)

    def run(self, levels: torch.Tensor, result_type: torch.dtype) -> torch.Tensor:
        """Sums of shape (T_in, images, H_out, W_out, N) for source levels of shape (T_in, images, H, W, C)."""
        projection = self.projection
        pooled = pool_levels(levels, projection.pooling, projection.input_max_level).to(self.type)
        channels, height, width = projection.output_shape
        steps, images = pooled.shape[:2]
        maps = pooled.flatten(0, 1)
        if self._whole and projection.groups == 1:
            sums = maps.flatten(1) @ self._weights
        elif self.type == torch.int64:
            images_at_once = max(1, _WINDOW_ELEMENTS // (height * width * self._weights[:, :, 0].numel()))
            sums = torch.cat([self._convolve_integers(part) for part in maps.split(images_at_once)])
        else:
            planes = maps.permute(0, 3, 1, 2)
            if planes.shape[1] == 1:
                planes = plain_strides(planes)  # those of a permuted single channel name no layout
            with torch.backends.nnpack.flags(enabled=False):
                sums = functional.conv2d(
                    planes,
                    self._weights,
                    stride=projection.stride,
                    padding=projection.padding,
                    groups=projection.groups,
                ).permute(0, 2, 3, 1)
        result = sums.to(result_type).reshape(steps, images, height, width, channels)
        return result.bitwise_left_shift_(projection.shift) if projection.shift else result

    def _convolve_integers(self, maps: torch.Tensor) -> torch.Tensor:
        """Convolution of maps of int64 and shape (images, H, W, C) as a product of matrices."""
        projection = self.projection
        rows, columns = projection.padding
        padded = functional.pad(maps, (0, 0, columns, columns, rows, rows))
        windows = padded.unfold(1, projection.kernel[0], projection.stride[0])
        windows = windows.unfold(2, projection.kernel[1], projection.stride[1])
        images, height, width = windows.shape[:3]
        # (images, y, x, groups, C / groups, ky, kx) to (groups, images y x, ky kx C / groups)
        parts = windows.unflatten(3, (projection.groups, -1)).permute(3, 0, 1, 2, 5, 6, 4)
        sums = parts.reshape(projection.groups, images * height * width, -1) @ self._weights
        return sums.transpose(0, 1).reshape(images, height, width, -1)
