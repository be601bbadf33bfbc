"""`python -m launch.cli`: the command that local and Slurm jobs run."""

import sys

from launch.cli import main

sys.exit(main())
