"""What the TPU compiler reports before you pay for a TPU: memory, traffic, step time. Start reading at compiler.py."""
