"""``python -m cli`` is ``securenet``."""

from cli.main import main

if __name__ == "__main__":
    main()
