"""`python -m fastapi_pluggable_auth` is the command."""

import sys

from .cli import main

sys.exit(main())
