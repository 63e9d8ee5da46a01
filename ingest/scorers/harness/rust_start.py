"""Turns into the compiled tests: the program is put into the sandbox's folder as bytes, which nothing can start yet."""

import os


def main() -> None:
    """Make the file a program and become it; its one argument is the file number to report on."""
    with open("channel", encoding="ascii") as file:
        channel = file.read()
    os.remove("channel")
    os.chmod("tests", 0o700)
    os.execve("./tests", ["./tests", channel], {})  # noqa: S606  no shell is what is wanted
