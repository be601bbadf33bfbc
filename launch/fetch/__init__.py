"""Data that `ladder data` downloads or writes. olmes.py: requests; mmlu.py: MMLU; paper_runs.py: the paper's runs."""
