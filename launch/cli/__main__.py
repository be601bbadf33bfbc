"""`python -m launch.cli`, which jobs run."""

import sys

from launch.cli import main

sys.exit(main())
