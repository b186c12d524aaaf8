"""`python -m penchant`, as `penchant`."""

from penchant.cli import main

if __name__ == "__main__":
    main()
