"""What every reader raises before it knows which file it reads."""


class MalformedError(Exception):
    """A sentence about the content of a file; `FormatError` puts the path before it."""
