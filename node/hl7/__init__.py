"""HL7 v2: messages read and written, and how they travel (MLLP)."""
