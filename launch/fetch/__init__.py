"""Data that a command brings: OLMES requests, MMLU, the paper's runs."""
