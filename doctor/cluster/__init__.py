"""Many nodes: facts collected on each, joined into one capture, judged in one place. Slurm and Ray carry the collector."""
