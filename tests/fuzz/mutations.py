"""How bytes are damaged: in one of a few ways at a time, each drawn from one source of chance, to be repeated."""

import random
import struct
from collections.abc import Callable, Sequence

# Where parsers count wrong: nothing, one, the largest, the signs, and one beside each.
LENGTHS = (
    0,
    1,
    2,
    7,
    8,
    0x7F,
    0xFF,
    0x7FFF,
    0xFFFE,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFF7,
    0xFFFFFFFE,
    0xFFFFFFFF,
)
TELLING_BYTES = b"\x00\x01\x20\x2e\x5c\x7f\x80\xfe\xff"
MAX_CHUNK_BYTES = 64
MAX_FLIPS = 8

Change = Callable[[bytes, random.Random], bytes]


def damage(content: bytes, chance: random.Random, *, others: Sequence[bytes]) -> bytes:
    """Return `content` with one to three changes.

    Parameters
    ----------
    others
        Contents of the same kind, for splices.
    """
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        change = chance.choice(CHANGES)
        content = splice(content, chance.choice(others), chance) if change is None else change(content, chance)
    return content


def flip_bits(content: bytes, chance: random.Random) -> bytes:
    """Flip a few bits."""
    changed = bytearray(content)
    for _ in range(chance.randint(1, MAX_FLIPS) if changed else 0):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def set_byte(content: bytes, chance: random.Random) -> bytes:
    """Set one byte to a telling value."""
    at = _place(content, chance)
    return content[:at] + bytes((chance.choice(TELLING_BYTES),)) + content[at + 1 :]


def lie_about_length(content: bytes, chance: random.Random) -> bytes:
    """Write a length where one may be, in either byte order."""
    code = chance.choice(("<H", ">H", "<I", ">I"))
    lie = struct.pack(code, chance.choice(LENGTHS) & (0xFFFF if code[1] == "H" else 0xFFFFFFFF))
    at = _place(content, chance) & ~1
    return content[:at] + lie + content[at + len(lie) :]


def cut(content: bytes, chance: random.Random) -> bytes:
    """Lose the end."""
    return content[: _place(content, chance)]


def lose(content: bytes, chance: random.Random) -> bytes:
    """Lose a piece."""
    begin, end = _piece(content, chance)
    return content[:begin] + content[end:]


def double(content: bytes, chance: random.Random) -> bytes:
    """Have a piece once more, right behind itself or elsewhere."""
    begin, end = _piece(content, chance)
    at = chance.choice((end, _place(content, chance)))
    return content[:at] + content[begin:end] + content[at:]


def insert(content: bytes, chance: random.Random) -> bytes:
    """Have random bytes somewhere."""
    at = _place(content, chance)
    return content[:at] + chance.randbytes(chance.randint(1, MAX_CHUNK_BYTES)) + content[at:]


def splice(content: bytes, other: bytes, chance: random.Random) -> bytes:
    """Begin like one and end like another."""
    return content[: _place(content, chance)] + other[_place(other, chance) :]


# None: a splice, which needs another content.
CHANGES: tuple[Change | None, ...] = (
    flip_bits,
    flip_bits,
    set_byte,
    lie_about_length,
    lie_about_length,
    cut,
    lose,
    double,
    insert,
    None,
)


def shuffle_parts(parts: Sequence[bytes], chance: random.Random, *, others: Sequence[bytes]) -> list[bytes]:
    """Return whole parts (elements, items, PDUs), one of them lost, doubled, moved, damaged or foreign."""
    changed = list(parts)
    at = chance.randrange(len(changed))
    match chance.randrange(5):
        case 0:
            del changed[at]
        case 1:
            changed.insert(chance.randrange(len(changed)), changed[at])
        case 2:
            changed.insert(chance.randrange(len(changed)), changed.pop(at))
        case 3:
            changed[at] = damage(changed[at], chance, others=parts)
        case _:
            changed.insert(at, chance.choice(others))
    return changed


def _place(content: bytes, chance: random.Random) -> int:
    return chance.randrange(len(content) + 1)


def _piece(content: bytes, chance: random.Random) -> tuple[int, int]:
    begin = _place(content, chance)
    return begin, min(begin + chance.randint(1, MAX_CHUNK_BYTES), len(content))
