"""Rounding by reconstruction: weights of a layer together, so that its currents stay float's."""
