"""Stand-ins in plain Python for compiled packages, under their names, for the zipapp that goes to nodes without them."""
