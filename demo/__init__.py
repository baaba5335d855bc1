"""The embedded default: a toy model, a small data set and a workspace with the recipe's real faults in it."""
