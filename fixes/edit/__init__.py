"""Smallest edits of text files: what is asked changes, every other byte stays. Pure functions of bytes."""
