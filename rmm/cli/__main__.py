"""`python -m rmm.cli`."""

import sys

from rmm.cli import main

sys.exit(main())
