"""scikit-learn's handwritten digits."""

from __future__ import annotations

import numpy as np
import torch

from twophase.study.datasets import Digits


def read(images: Digits) -> dict[str, torch.Tensor]:
    """scikit-learn's handwritten digits, pixels 0 to 16, split with equal shares of each class."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    pixels = bunch.images.astype(np.uint8)[:, None]
    train_x, test_x, train_y, test_y = train_test_split(
        pixels,
        bunch.target,
        test_size=images.test_examples,
        stratify=bunch.target,
        random_state=0,
    )
    arrays = {
        "train_images": train_x,
        "train_labels": train_y,
        "test_images": test_x,
        "test_labels": test_y,
    }
    return {name: torch.from_numpy(array) for name, array in arrays.items()}
