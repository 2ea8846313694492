"""What a network asks of its backbone."""

from typing import Protocol

from jaxtyping import Array, Float


class Backbone(Protocol):
    """A network from normalised images to maps.

    Attributes:
        out_features: channels of the maps.
        stride: how many times smaller than the picture they are.
    """

    out_features: int
    stride: int

    def __call__(self, images: Float[Array, "b size size 3"], /) -> Float[Array, "b h w c"]: ...

    def eval(self) -> None:
        """Let batch normalisation use its running statistics, and leave them as they are."""
