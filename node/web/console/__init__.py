"""The console: pages for people, made on the server; every page works without a script."""
