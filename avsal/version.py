"""The version of avsal, said once."""

__version__ = "0.3.0"
