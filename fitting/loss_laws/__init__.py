"""Scaling laws of the loss and what follows from them. Start reading at loss_fit.py."""
