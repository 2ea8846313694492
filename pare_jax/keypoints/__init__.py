"""Keypoints of people: sets, files, detectors, and the points of the body that they mark."""
