"""Square patches of the two sample photos that scikit-learn bundles."""

import numpy as np
from PIL import Image

from ood.config.data import Photo
from ood.data.chain import ImageChain
from ood.data.items import ItemSet, outliers
from ood.errors import InputError

PATIENCE = 50  # tries per wanted patch before the photo counts as exhausted


def load(source: Photo, chain: ImageChain, rng: np.random.Generator) -> ItemSet:
    """`source.count` distinct patches with enough contrast; the whole photo is one provenance, so it can serve one role only."""
    from sklearn.datasets import (
        load_sample_image,  # half a second that `check` need not spend
    )

    photo = Image.fromarray(load_sample_image(source.image))
    images: list[np.ndarray] = []
    names, seen = [], set()
    for _ in range(source.count * PATIENCE):
        if len(images) == source.count:
            break
        side = int(rng.integers(source.crop[0], source.crop[1] + 1))
        left, top = (int(rng.integers(0, room - side + 1)) for room in photo.size)
        patch = chain.native(photo.crop((left, top, left + side, top + side)))
        if patch.std() / 255 >= source.contrast and patch.tobytes() not in seen:
            seen.add(patch.tobytes())
            images.append(patch)
            names.append(f"photo/{source.image}/{left},{top},{side}")
    else:
        raise InputError(
            f"{source.image} gave {len(images)} distinct patches of contrast {source.contrast}, {source.count} are wanted. "
            "Ask for fewer, or lower the contrast."
        )
    return outliers(images, names, [(f"photo:{source.image}",)] * len(images))
