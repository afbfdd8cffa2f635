"""The diabetes data that come with scikit-learn: how far the disease has come after a year, from
ten measurements of 442 patients (Efron et al. 2004).
"""

import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split


def patients(test_examples: int) -> dict[str, np.ndarray]:
    """Measurements (n, 10) and progressions (n,), the latter with mean 0 and deviation 1 over the
    training patients.
    """
    x, y = load_diabetes(return_X_y=True, scaled=False)
    train_x, test_x, train_y, test_y = train_test_split(
        x, y, test_size=test_examples, random_state=0
    )
    mean, deviation = train_y.mean(), train_y.std()
    return {
        "train_vectors": train_x,
        "train_labels": (train_y - mean) / deviation,
        "test_vectors": test_x,
        "test_labels": (test_y - mean) / deviation,
    }
