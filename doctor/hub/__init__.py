"""How the target would reach a model hub: its settings, and one staged connection that says where it fails."""
