"""The layer that makes an autoencoder variational."""

from warploom.ground.arrays import number
from warploom.network.graph import Layer


class Sampling(Layer):
    """From means and logarithms of variances a draw in training, and the means elsewhere: for variational autoencoders.

    The input is (2k) or (2c, h, w): its first half are means m, its second logarithms of variances v. The output, (k) or (c, h,
    w), is m + exp(v / 2) * e with e from the standard normal distribution. The loss grows by kl_weight times the divergence
    from that distribution: the sum of (m^2 + exp(v) - 1 - v) / 2 over a sample's numbers, mean over samples. 0: nothing is
    added.

    e is drawn from the model's seed, the layer's name, the sample's place in the batch and the number of steps taken so far: the
    same on every device and version, and the same after going on from a checkpoint. Source: https://arxiv.org/abs/1312.6114.
    """

    op = "gaussian_sample"
    drawn_as = ""

    def __init__(self, kl_weight: float = 1.0, *, name: str | None = None) -> None:
        super().__init__(name)
        self.kl_weight = number(kl_weight, "Sampling: kl_weight", 0.0)

    def penalties(self) -> list[tuple[str, float]]:
        return [("kl_divergence", self.kl_weight)] if self.kl_weight else []
