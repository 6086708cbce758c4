"""Atypical's library: four methods for out-of-distribution detection as small modules.

Imports point one way: stages -> ood. Nothing in here parses arguments, prints, or knows of DVC.
"""
