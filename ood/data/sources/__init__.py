"""One module per kind of image source. Each yields native images (after the chain, before enlarging) with provenance."""
