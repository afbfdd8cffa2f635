"""Pictures as bytes of the size that a study asks for."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageOps

from twophase.study.datasets import Pictures


class Refused(Exception):
    """A picture that cannot be used; the message says why."""


def in_mode(image: Image.Image, mode: str) -> Image.Image:
    """A picture of 8 bits in another mode, `RGB` or `L`. Raises `Refused` if it has more bits."""
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        numbers = "float" if image.mode == "F" else "32-bit integer"
        raise Refused(
            f"has {numbers} pixels, of which only you know what is black and what white; "
            "save it with 8 bits, or with the full range of 16"
        )
    return image.convert(mode)


def fitted(image: Image.Image, images: Pictures) -> np.ndarray:
    """Pixels (channels, size, size) as bytes, padded and resized if the study says so.

    Raises `Refused` if the picture has another size.
    """
    size = (images.image_size, images.image_size)
    width, height = image.size
    if images.pad:
        side = max(width, height) if images.resize else max(width, height, images.image_size)
        square = Image.new(image.mode, (side, side))
        square.paste(image, ((side - width) // 2, (side - height) // 2))
        image = square
    if images.resize:
        image = ImageOps.fit(image, size, Image.Resampling.BILINEAR)
    if image.size != size:
        raise Refused(
            f"has {width} x {height} pixels; data.images.image_size = {images.image_size}; with "
            "data.images.resize = true it would be scaled"
        )
    return np.array(image).reshape(*size, -1).transpose(2, 0, 1)
