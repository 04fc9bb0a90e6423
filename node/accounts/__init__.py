"""Who may come in: passwords, sessions, tokens, one-time links, and the OpenID provider of a hospital."""
