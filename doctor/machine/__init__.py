"""The machine that trains: its memory and limits, its disks, and what a recipe's size means for them."""
