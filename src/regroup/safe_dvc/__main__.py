"""`python -m regroup.safe_dvc`, the same as this environment's `dvc`."""

import sys

from regroup.safe_dvc import main

sys.exit(main())
