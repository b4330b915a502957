"""`python -m service.api`: one gateway process."""

import sys

from service.cli import main

sys.exit(main(["gateway"]))
