"""The language in which a site says what runs on what."""
