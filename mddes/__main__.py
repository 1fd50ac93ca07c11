"""`python -m mddes`."""

import sys

from mddes.cli import main

sys.exit(main())
