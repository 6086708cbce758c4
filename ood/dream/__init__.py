"""DREAM-OOD (NeurIPS 2023): features aligned with a diffusion model's word embeddings, outliers drawn there and painted.

The only place that imports diffusers and transformers, and only when it runs.
"""
