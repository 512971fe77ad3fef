"""Which packages of the extras are installed."""

from importlib.metadata import PackageNotFoundError, distribution


def is_installed(name):
    """Whether there is a package; a folder of tests with its name does not count."""
    try:
        return bool(distribution(name))
    except PackageNotFoundError:
        return False
