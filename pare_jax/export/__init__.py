"""Exports a trained network to one file: a StableHLO program for JAX, or an ONNX model."""
