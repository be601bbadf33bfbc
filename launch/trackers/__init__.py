"""`ladder track`: copies the metrics of run directories to TensorBoard or Weights & Biases.

Start reading at follow.py.
"""
