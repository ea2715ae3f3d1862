"""The specification's autoencoder of CIFAR-10 as a recipe: its latent as it is, to compare what is learnt otherwise with.

What reconstructs best does not tell classes best: an encoder that was trained for 2 % of the steps is worth as much.
"""

from warploom import models
from warploom.errors import ArgumentError
from warploom.ground.array_types import Array
from warploom.ground.arrays import positive
from warploom.model import Model
from warploom.recipes.parts import Told
from warploom.recipes.registry import Progress, recipe


@recipe("the specification's autoencoder, trained to reconstruct: its latent as it is", "docs/models.md")
def plain(
    images: Array,
    *,
    epochs: int | None = None,
    preset: str | None = None,
    seed: int = 0,
    progress: Progress = lambda what, share: None,
) -> Model:
    """epochs: None: as many as the specification, or the preset, says (no epoch: an untrained network, the control); preset: of
    cifar10_autoencoder, such as sharp. Images have three channels and sides that are multiples of 4."""
    if images.shape[1] != 3:
        raise ArgumentError(f"recipe plain expects images of 3 channels, not {images.shape[1]}; other recipes take any number")
    objective = models.objective("cifar10_autoencoder", preset=preset)
    model = models.get("cifar10_autoencoder", preset=preset, size=images.shape[2:])
    model.compile(**objective.compile_arguments(), seed=seed)
    count = objective.epochs if epochs is None else positive(epochs, "epochs", minimum=0)
    if count:
        schedule = objective.make_schedule()
        callbacks = [*([schedule] if schedule else []), Told(count, progress)]
        model.fit(images, epochs=count, callbacks=callbacks, batch_size=objective.batch_size, verbose=False)
    return model
