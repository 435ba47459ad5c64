"""The image operations of AutoAugment, on batches: bit for bit what Pillow's do to single images.

All take images as ``torch.Tensor`` of ``uint8``, shape (N, C, H, W) with C = 1 (grey) or 3 (RGB), and a magnitude for
every image, ``torch.Tensor`` of ``float64``, shape (N,), and return changed copies. What comes from outside an image is
black. They are written out here, since a loop over images takes longer than the update that it feeds, and runs on one
kind of device alone.
"""

from __future__ import annotations

import torch

__all__ = [
    "adjust_brightness",
    "adjust_color",
    "adjust_contrast",
    "adjust_sharpness",
    "auto_contrast",
    "equalize",
    "invert",
    "posterize",
    "rotate",
    "shear_x",
    "shear_y",
    "solarize",
    "translate_x",
    "translate_y",
]


def shear_x(images: torch.Tensor, magnitudes: torch.Tensor) -> torch.Tensor:
    """Row ``y`` moves to the left by ``magnitude * y`` pixels; the top left corner stays."""
    one, zero = torch.ones_like(magnitudes), torch.zeros_like(magnitudes)
    return _affine(images, (one, magnitudes, zero), (zero, one, zero))


def shear_y(images: torch.Tensor, magnitudes: torch.Tensor) -> torch.Tensor:
    """Column ``x`` moves up by ``magnitude * x`` pixels."""
    one, zero = torch.ones_like(magnitudes), torch.zeros_like(magnitudes)
    return _affine(images, (one, zero, zero), (magnitudes, one, zero))


def translate_x(images: torch.Tensor, magnitudes: torch.Tensor) -> torch.Tensor:
    """Move to the left by that part of the width, in whole pixels, rounded towards 0."""
    one, zero = torch.ones_like(magnitudes), torch.zeros_like(magnitudes)
    return _affine(images, (one, zero, (magnitudes * images.shape[3]).trunc()), (zero, one, zero))


def translate_y(images: torch.Tensor, magnitudes: torch.Tensor) -> torch.Tensor:
    """Move up by that part of the height, in whole pixels, rounded towards 0."""
    one, zero = torch.ones_like(magnitudes), torch.zeros_like(magnitudes)
    return _affine(images, (one, zero, zero), (zero, one, (magnitudes * images.shape[2]).trunc()))


def rotate(images: torch.Tensor, magnitudes: torch.Tensor) -> torch.Tensor:
    """Turn counter-clockwise about the centre, by degrees."""
    angles = -torch.deg2rad(magnitudes)
    cosine, sine = torch.cos(angles), torch.sin(angles)
    x, y = images.shape[3] / 2, images.shape[2] / 2
    return _affine(
        images,
        (cosine, sine, x - cosine * x - sine * y),
        (-sine, cosine, y + sine * x - cosine * y),
    )


def adjust_brightness(images: torch.Tensor, magnitudes: torch.Tensor) -> torch.Tensor:
    """Away from black: 0 gives black, 1 the image, more a brighter one."""
    return _blend(torch.zeros_like(images), images, magnitudes)


def adjust_color(images: torch.Tensor, magnitudes: torch.Tensor) -> torch.Tensor:
    """Away from the grey image: 0 gives grey, 1 the image."""
    return _blend(_grey(images).expand_as(images), images, magnitudes)


def adjust_contrast(images: torch.Tensor, magnitudes: torch.Tensor) -> torch.Tensor:
    """Away from the mean of the grey image: 0 gives one even grey, 1 the image."""
    grey = _grey(images)
    pixels = grey.shape[2] * grey.shape[3]
    # Half up, in integers.
    mean = (2 * grey.sum(dim=(2, 3), keepdim=True, dtype=torch.int64) + pixels) // (2 * pixels)
    return _blend(mean.to(images.dtype).expand_as(images), images, magnitudes)


def adjust_sharpness(images: torch.Tensor, magnitudes: torch.Tensor) -> torch.Tensor:
    """Away from the smoothed image, of which the outermost pixels stay: 0 gives that, 1 the image."""
    wide = images.to(torch.int32)
    height, width = images.shape[2:]
    total = 4 * wide[:, :, 1:-1, 1:-1]
    for row in range(3):
        for column in range(3):
            total = total + wide[:, :, row : height - 2 + row, column : width - 2 + column]
    smooth = images.clone()
    # Weights 1, and 5 in the middle: thirteenths, rounded.
    smooth[:, :, 1:-1, 1:-1] = ((2 * total + 13) // 26).to(images.dtype)
    return _blend(smooth, images, magnitudes)


def posterize(images: torch.Tensor, magnitudes: torch.Tensor) -> torch.Tensor:
    """Keep as many of the upper bits, 0 to 8 and rounded."""
    masks = 256 - 2 ** (8 - magnitudes.round().to(torch.int64))
    return images & _each(masks.to(images.dtype))


def solarize(images: torch.Tensor, magnitudes: torch.Tensor) -> torch.Tensor:
    """Invert the pixels that are not below the magnitude."""
    return torch.where(images < _each(magnitudes), images, 255 - images)


def auto_contrast(images: torch.Tensor, magnitudes: torch.Tensor) -> torch.Tensor:
    """Stretch every channel from 0 to 255; a channel of one value stays."""
    values = images.to(torch.float64)
    low, high = values.amin(dim=(2, 3), keepdim=True), values.amax(dim=(2, 3), keepdim=True)
    # `255 / tensor` would multiply by a rounded reciprocal.
    scale = torch.full_like(high, 255).div((high - low).clamp(min=1))
    stretched = (values * scale - low * scale).clamp(0, 255).to(images.dtype)
    return torch.where(high > low, stretched, images)


def equalize(images: torch.Tensor, magnitudes: torch.Tensor) -> torch.Tensor:
    """Flatten the histogram of every channel; a channel of one value stays."""
    count, channels, height, width = images.shape
    values = images.reshape(count * channels, height * width).to(torch.int64)
    rows = torch.arange(len(values), device=images.device)[:, None] * 256
    histogram = torch.bincount((rows + values).flatten(), minlength=256 * len(values)).view(-1, 256)
    highest = values.amax(dim=1, keepdim=True)
    step = (height * width - histogram.gather(1, highest)) // 255
    below = histogram.cumsum(dim=1) - histogram
    table = ((below + step // 2) // step.clamp(min=1)).clamp(max=255)
    table = torch.where(step > 0, table, torch.arange(256, device=images.device))
    return table.gather(1, values).to(images.dtype).view_as(images)


def invert(images: torch.Tensor, magnitudes: torch.Tensor) -> torch.Tensor:
    """Light becomes dark."""
    return 255 - images


def _each(values: torch.Tensor) -> torch.Tensor:
    """One value per image, to be combined with its pixels."""
    return values[:, None, None, None]


def _grey(images: torch.Tensor) -> torch.Tensor:
    """Luma of ITU-R 601-2, shape (N, 1, H, W); the rounded factors are 65536 times its weights."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.to(torch.int32).split(1, dim=1)
    return ((19595 * red + 38470 * green + 7471 * blue + 32768) >> 16).to(images.dtype)


def _blend(start: torch.Tensor, images: torch.Tensor, magnitudes: torch.Tensor) -> torch.Tensor:
    """``start + magnitude * (images - start)``, cut off at 0 and 255 and rounded down."""
    begin, end = start.to(torch.float32), images.to(torch.float32)
    mixed = begin + _each(magnitudes).to(torch.float32) * (end - begin)
    return mixed.clamp(0, 255).to(images.dtype)


def _affine(
    images: torch.Tensor, to_x: tuple[torch.Tensor, ...], to_y: tuple[torch.Tensor, ...]
) -> torch.Tensor:
    """Every pixel takes the value of the one that its centre falls into: ``a x + b y + c`` in either direction."""
    height, width = images.shape[2:]
    # In 65536ths of a pixel, as Pillow counts: places are the same on every device.
    y = torch.arange(height, device=images.device)[:, None]
    x = torch.arange(width, device=images.device)
    columns, rows = (
        _fixed(a) * x + _fixed(b) * y + _fixed(c + a * 0.5 + b * 0.5) >> 16 for a, b, c in (to_x, to_y)
    )
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    places = (
        torch.where(inside, rows * width + columns, 0).flatten(1)[:, None].expand(-1, images.shape[1], -1)
    )
    found = images.flatten(2).gather(2, places).view_as(images)
    return torch.where(inside[:, None], found, 0)


def _fixed(values: torch.Tensor) -> torch.Tensor:
    return torch.floor(values * 65536 + 0.5).to(torch.int64)[:, None, None]
