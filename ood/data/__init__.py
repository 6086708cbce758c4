"""From sources to packed arrays: the image chain, the catalog of sources, roles and provenance, batches."""
