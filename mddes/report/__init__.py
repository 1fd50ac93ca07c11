"""Figures of a run, drawn from its folder. The only place that imports matplotlib."""
