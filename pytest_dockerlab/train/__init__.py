"""The training stage: what a run printed, what its loss did."""
