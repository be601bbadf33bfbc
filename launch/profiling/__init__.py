"""Where the time of a training step goes, from a profiler's trace. Start reading at step_times.py."""
