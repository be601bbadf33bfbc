"""Data that `ladder data` downloads or writes: OLMES requests, MMLU, the paper's runs."""
