"""The command line: parse, call one function of the package, print. No logic lives here."""

from sottovoce.cli.app import main

__all__ = ["main"]
