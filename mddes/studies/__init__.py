"""Studies: train victims under perturbations and judge them on test images."""
