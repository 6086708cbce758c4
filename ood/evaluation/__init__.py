"""Evaluation: the one forward pass, metrics, calibration, the papers' protocols, neural collapse, epochs traced, and figures of all."""
