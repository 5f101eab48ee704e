"""What runs compiled. Importing a module of this folder imports numba."""
