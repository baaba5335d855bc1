"""`check --deep`: every rank of the launch at work for some seconds, each on its own device, then all of them together."""
