"""Offline: data, fine-tuning, quantization, publication.  See README.md."""
