"""What must have happened to a received Instance before its sender is told Success."""

from enum import StrEnum


class Durability(StrEnum):
    """When the bytes of a received Instance count as kept; docs/durability.md tells what each survives."""

    FSYNC = "fsync"
    GROUP = "group"
    NONE = "none"
