"""Unleashing Mask (ICML 2023): masks over weights, the loss constraint, atypical samples, and forgetting them (UM, UMAP)."""
