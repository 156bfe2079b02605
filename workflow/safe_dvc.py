"""The environment's `dvc` for jobs, which may find no commands on their path."""

import sys

from regroup.safe_dvc import main

if __name__ == "__main__":
    sys.exit(main())
