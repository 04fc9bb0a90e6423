"""The first station: one Instance becomes durable bytes and a row, then its sender may forget it."""
