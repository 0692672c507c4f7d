"""`python -m service.cli` is `gatebook`."""

from service.cli import main

main()
