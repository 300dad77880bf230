"""`python -m rmm`, for where the command `rmm` is not on the path."""

import sys

from rmm.cli import main

sys.exit(main())
