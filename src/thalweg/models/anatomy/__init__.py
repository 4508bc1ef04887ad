"""What can be said of a network before it is trained: its layers, its cost, what it sees."""
