"""The task-ladder paper to the letter (Bhagia et al. 2024). Start reading at methods.py."""
