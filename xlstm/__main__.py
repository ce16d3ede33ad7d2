"""`python -m xlstm` is the command `xlstm`."""

import sys

from xlstm.cli import main

if __name__ == "__main__":
    sys.exit(main())
