"""What was measured, read and checked once. Start reading at runs_table.py."""
