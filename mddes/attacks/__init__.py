"""What an image can be changed by after training: adversarial perturbations of test images."""

from mddes.attacks.gradient import fgsm, pgd

__all__ = ["fgsm", "pgd"]
