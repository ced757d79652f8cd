"""Perception with weights: open-vocabulary boxes, masks, depth and point tracks.

Every network is one of `transformers` (the tracker excepted), loaded at its first use from a folder
or the hub's cache: see `weights.py`. torch is imported where a network runs, and nowhere else.
"""
