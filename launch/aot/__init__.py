"""What the TPU compiler says before a TPU is paid for. Start reading at compiler.py."""
