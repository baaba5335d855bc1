"""The fault campaign: healthy workspaces, one fault put into each, and what was found, failed, healed and trained."""
