"""Export of a trained network to one file: a StableHLO program for JAX, or ONNX."""
