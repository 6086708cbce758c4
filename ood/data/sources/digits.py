"""scikit-learn's handwritten digits: 1,797 images of 8x8 with 17 grey levels, bundled with the library."""

import numpy as np

from ood.config.data import Digits
from ood.data.chain import ImageChain
from ood.data.items import ItemSet

COUNTS = (178, 182, 177, 183, 181, 182, 181, 179, 174, 180)  # of 0 to 9


def load(source: Digits, chain: ImageChain) -> ItemSet:
    """The digits of the listed classes; labels count up in the order of `source.classes`."""
    from sklearn.datasets import (
        load_digits,  # half a second that `check` need not spend
    )

    bunch = load_digits()
    images, labels, names, keys = [], [], [], []
    for index, (image, digit) in enumerate(zip(bunch.images, bunch.target, strict=True)):
        if digit in source.classes:
            images.append(chain.native(np.rint(image * (255 / 16)).astype(np.uint8)))
            labels.append(source.classes.index(int(digit)))
            names.append(f"digits/{index}")
            keys.append((f"digits/{index}",))
    return ItemSet(np.stack(images), np.array(labels, np.int64), names, keys, [str(c) for c in source.classes])
