"""Models of energy: each an equation over counts, with what it leaves out. None knows another."""
