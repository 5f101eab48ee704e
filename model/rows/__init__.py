"""One file for each framework; none imports its framework."""
