"""The sections of the report, each a function of what it is made from."""
