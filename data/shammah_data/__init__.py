"""What serving and training share: settings, the exchange log, the model store. No torch, no onnxruntime."""
