"""`check --deep`: what only the target's own code can tell, asked of child processes with a deadline."""
