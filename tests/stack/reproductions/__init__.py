"""Causes of the knowledge base made to happen with real packages, one fault at a time, and healed by the doctor."""
