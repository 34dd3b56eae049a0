"""``python -m creemson`` is the same program as ``creemson``."""

from creemson.cli import main

if __name__ == "__main__":
    main()
