"""What requests ask for: kinds of requests, each with a distribution of its token counts and images."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from asymsim.core.arrays import Array
from asymsim.estimator.token_counts import IMAGE_BOUNDS, LARGEST_IMAGE_PIXELS, TOKEN_BOUNDS
from asymsim.serving.workload.requests import Requests, make_requests
from asymsim.util.errors import InputError
from asymsim.util.sampling import Distribution, uniform_samples
from asymsim.util.seeds import seed_of
from asymsim.util.toml import integer

# The columns of ``Requests`` that are drawn, with their bounds.
COLUMNS = {**IMAGE_BOUNDS, **{field: TOKEN_BOUNDS[field] for field in ("text_tokens", "output_tokens")}}
IMAGE_COLUMNS = ("num_images", "image_height", "image_width", "visual_tokens")
# Our own choice: at a request a second, users that come back within a quarter of an hour.
WINDOW = 1000
# Where a mix does not say: those of a single estimate (``Scenario``).
DEFAULTS = {"text_tokens": 64, "output_tokens": 128}


@dataclass(frozen=True)
class EmpiricalDistribution:
    """Values in proportion to their weights: an empirical distribution, of one column or of several together.

    Attributes
    ----------
    values : tuple of tuple of int
        Each with one number a column.
    weights : tuple of float
        One a value, from 0, not all 0.
    seed : int
    """

    values: tuple[tuple[int, ...], ...]
    weights: tuple[float, ...]
    seed: int = 0

    def take(self, indices: Array) -> Array:
        """The samples of these indices, int64 of shape (indices, columns)."""
        reached = np.cumsum(self.weights)
        below = uniform_samples(self.seed, 0, indices.astype(np.uint64)) * reached[-1]
        place = np.minimum(np.searchsorted(reached, below, side="right"), np.flatnonzero(self.weights)[-1])
        taken: Array = np.array(self.values, np.int64)[place]
        return taken


@dataclass(frozen=True)
class SampledColumn:
    """One column of the requests, or several that are drawn together, such as an image's height and width."""

    fields: tuple[str, ...]
    law: Distribution | EmpiricalDistribution

    def take(self, seed: int, indices: Array) -> dict[str, Array]:
        """Values of these requests by column; two columns never share their luck, whatever their own seeds."""
        law = replace(self.law, seed=seed_of(seed, f"{', '.join(self.fields)} {self.law.seed}"))
        drawn = law.take(indices).reshape(len(indices), len(self.fields))
        return dict(zip(self.fields, drawn.T, strict=True))


@dataclass(frozen=True)
class MixClass:
    """One kind of request.

    Attributes
    ----------
    name : str
    weight : float
        Its share of the requests, relative to the other kinds'.
    columns : tuple of Column
        A later one replaces an earlier one's fields.
    image_reuse : float
        Share of its requests with images whose images are those of an earlier one, in [0, 1].
    image_window : int
        How many requests with images an earlier one may lie back.
    """

    name: str
    weight: float
    columns: tuple[SampledColumn, ...]
    image_reuse: float = 0.0
    image_window: int = WINDOW


@dataclass(frozen=True)
class Mix:
    """Kinds of requests by their weights; what a request asks for follows from the seed and its number alone."""

    name: str
    kinds: tuple[MixClass, ...]

    def draw(self, arrival_s: Array, seed: int = 0) -> Requests:
        """One request an arrival.

        Parameters
        ----------
        arrival_s : numpy.ndarray
            Seconds, never falling.
        seed : int
            The same requests, one by one, whatever the arrivals; the first n of a longer run are the same.

        Raises
        ------
        InputError
            If an image has more pixels than any model takes.
        """
        made = make_requests(arrival_s, **DEFAULTS)
        indices = np.arange(len(arrival_s))
        kinds = EmpiricalDistribution(
            tuple((place,) for place in range(len(self.kinds))), tuple(kind.weight for kind in self.kinds)
        )
        of_kind = SampledColumn(("kind",), kinds).take(seed, indices)["kind"]
        for place, kind in enumerate(self.kinds):
            rows = indices[of_kind == place]
            for column in kind.columns:
                for field, values in column.take(seed, rows).items():
                    getattr(made, field)[rows] = values
            if kind.image_reuse:
                _reuse_images(made, rows[made.num_images[rows] > 0], kind, seed)
        pixels = made.image_height * made.image_width
        if len(made) and pixels.max() > LARGEST_IMAGE_PIXELS:
            height, width = made.image_height[pixels.argmax()], made.image_width[pixels.argmax()]
            raise InputError(
                f"{self.name}: image_height x image_width",
                f"{height} x {width}",
                f"give at most {LARGEST_IMAGE_PIXELS} pixels",
            )
        # Without an image there is nothing that visual tokens could be of.
        bare = made.num_images == 0
        made.visual_tokens[bare] = np.minimum(made.visual_tokens[bare], 0)
        return made


def _reuse_images(made: Requests, rows: Array, kind: MixClass, seed: int) -> None:
    """Give a share of these requests the images of an earlier one, any within the window with the same chance.

    A request's images are so met again by ``image_reuse`` later ones on average, each of which is met again in turn: a
    branching process, in which an image is in ``1 / (1 - image_reuse)`` requests (Feller 1968, section XII.5).
    """
    luck = seed_of(seed, "image_reuse")
    place = np.arange(len(rows))
    again = uniform_samples(luck, 0, rows.astype(np.uint64)) < kind.image_reuse
    back = uniform_samples(luck, 1, rows.astype(np.uint64)) * np.minimum(place, kind.image_window)
    first = np.where(again & (place > 0), place - 1 - back.astype(np.int64), place)
    # Each leads to an earlier one; follow them to the one that brought the images.
    while (first[first] != first).any():
        first = first[first]
    made.image_of[rows] = rows[first]
    for field in IMAGE_COLUMNS:
        column = getattr(made, field)
        column[rows] = column[rows[first]]


def fixed_mix(*, image_reuse: float = 0.0, **values: int) -> Mix:
    """Requests that are all alike.

    Parameters
    ----------
    image_reuse : float
        Share of the requests whose images are those of an earlier one, in [0, 1].
    **values
        ``text_tokens``, ``output_tokens``, ``num_images``, ``image_height``, ``image_width``, ``visual_tokens``.

    Raises
    ------
    InputError
        If a value is out of range, or both an image's size and its tokens are given.
    """
    if not 0.0 <= image_reuse <= 1.0:
        raise InputError("image_reuse", image_reuse, "give a share between 0 and 1")
    columns = tuple(
        SampledColumn((field,), EmpiricalDistribution(((integer(*COLUMNS[field])(value, field),),), (1.0,)))
        for field, value in values.items()
    )
    check_images(columns, "visual_tokens")
    return Mix("fixed", (MixClass("fixed", 1.0, columns, image_reuse),))


def check_images(columns: tuple[SampledColumn, ...], where: str) -> None:
    """Refuse images by size and by tokens at once."""
    fields = {field for column in columns for field in column.fields}
    if "visual_tokens" in fields and fields & {"image_height", "image_width"}:
        raise InputError(where, sorted(fields & set(IMAGE_COLUMNS)), "give either the image's size or its tokens")
