"""All benchmarks, one after the other: `make bench`."""

from benchmarks import core

if __name__ == "__main__":
    core.main()
