"""Figures and pages. Start reading at task_report.py."""
