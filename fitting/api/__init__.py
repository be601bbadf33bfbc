"""The public functions and results of `import fitting`. loss.py: laws of the loss; tasks.py: the two-step task law."""
