"""``python -m dvtool`` is ``dv``."""

from dvtool.cli import main

if __name__ == "__main__":
    main()
