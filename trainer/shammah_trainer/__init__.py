"""The night: dataset, fine-tuning, evaluation, calibration, gate, promotion."""
