"""The audit trail: who did what to whose Studies, as PS3.15 A.5 messages in files that only grow."""
