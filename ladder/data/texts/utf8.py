"""Text is UTF-8 everywhere."""

from ladder.errors import InputError


def encoded(text: str, where: str) -> bytes:
    """Raises InputError that begins with `where`."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise InputError(f"{where}: its text contains a lone surrogate, which UTF-8 cannot encode") from None


def is_utf8(content: bytes) -> bool:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
