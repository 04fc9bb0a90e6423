"""radnode: the AI processing node that stands beside a PACS."""
