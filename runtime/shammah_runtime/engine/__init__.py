"""Token ids in, token ids out: ONNX session, KV cache, decoding, sampling, chat format. Knows no tiers."""
