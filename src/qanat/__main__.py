"""`python -m qanat` is `qanat`."""

from qanat.cli.main import main

main()
