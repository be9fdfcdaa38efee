"""`python -m avsal`."""

from avsal.cli import main

if __name__ == "__main__":
    main()
