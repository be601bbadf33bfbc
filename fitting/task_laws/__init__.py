"""The two-step task law: (N, D) to bpb to accuracy. Start reading at two_step.py."""
