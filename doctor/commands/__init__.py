"""One module per command: what the command line asks for, done with the packages below, and rendered."""
