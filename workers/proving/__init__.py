"""Written objects are read again and proven, ours and those of anybody; nothing here writes."""
