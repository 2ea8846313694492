"""Fits of bodies to the keypoints of prepared datasets, used as labels."""
