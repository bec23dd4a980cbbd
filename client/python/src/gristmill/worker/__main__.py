"""`python -m gristmill.worker`."""

from gristmill.worker.cli import main

main()
