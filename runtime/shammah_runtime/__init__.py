"""The serving process: engine, tiers, teacher, terminal. No torch, no transformers, no onnx."""
