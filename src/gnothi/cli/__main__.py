"""`python -m gnothi.cli`."""

from gnothi.cli import main

if __name__ == "__main__":
    main()
