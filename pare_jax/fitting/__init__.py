"""Fits bodies and cameras to 2D keypoints, and to 3D ones where a source has them."""
