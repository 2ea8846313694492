"""Fixtures for tests of keypoints."""

from tests.keypoints.blazepose_fakes import fake_network

__all__ = ["fake_network"]
