"""Torch weights to ONNX graph: shapes, quantization, graph builder, parity. No training."""
