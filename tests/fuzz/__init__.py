"""The fuzzer: damaged PDUs, Command Sets and data sets against a running node; `python -m tests.fuzz --help`."""
