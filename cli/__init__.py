"""The top floor: the `lake` command. It parses, calls one function and prints."""
