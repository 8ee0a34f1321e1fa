"""Mixes of requests: classes of requests by weight, each with distributions of its token counts and images."""

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

# Columns of ``Requests`` that a mix samples, with their bounds.
COLUMNS = {**IMAGE_BOUNDS, **{field: TOKEN_BOUNDS[field] for field in ("text_tokens", "output_tokens")}}
IMAGE_COLUMNS = ("num_images", "image_height", "image_width", "visual_tokens")
# Our own choice: at one request a second, users who ask again within a quarter of an hour.
WINDOW = 1000
# Seeds the classes of requests; another name would give other requests for the same seed.
CLASS_STREAM = "kind"
# Values where a mix has none: the defaults of ``Scenario``.
DEFAULTS = {"text_tokens": 64, "output_tokens": 128}


@dataclass(frozen=True)
class EmpiricalDistribution:
    """Empirical distribution: values in proportion to their weights, for one column or several together.

    Attributes
    ----------
    values : tuple of tuple of int
        Each value has one number for each column.
    weights : tuple of float
        One weight for each value, from 0, not all 0.
    seed : int
    """

    values: tuple[tuple[int, ...], ...]
    weights: tuple[float, ...]
    seed: int = 0

    def take(self, indices: Array) -> Array:
        """Samples of these indices, int64 of shape (indices, columns)."""
        cumulative = np.cumsum(self.weights)
        uniform = uniform_samples(self.seed, 0, indices.astype(np.uint64)) * cumulative[-1]
        index = np.minimum(np.searchsorted(cumulative, uniform, side="right"), np.flatnonzero(self.weights)[-1])
        samples: Array = np.array(self.values, np.int64)[index]
        return samples


@dataclass(frozen=True)
class SampledColumn:
    """One sampled column of the requests, or several sampled together, such as an image's height and width."""

    fields: tuple[str, ...]
    distribution: Distribution | EmpiricalDistribution

    def take(self, seed: int, indices: Array) -> dict[str, Array]:
        """Values of these requests by column; two columns never share random numbers, whatever their seeds."""
        stream = f"{', '.join(self.fields)} {self.distribution.seed}"
        distribution = replace(self.distribution, seed=seed_of(seed, stream))
        samples = distribution.take(indices).reshape(len(indices), len(self.fields))
        return dict(zip(self.fields, samples.T, strict=True))


@dataclass(frozen=True)
class MixClass:
    """One class of requests in a mix.

    Attributes
    ----------
    name : str
    weight : float
        Share of the requests, relative to the weights of the other classes.
    columns : tuple of SampledColumn
        A later column replaces the fields of an earlier one.
    image_reuse : float
        Share of its requests with images that repeat the images of an earlier request, in [0, 1].
    image_window : int
        Requests with images to look back for the earlier request.
    """

    name: str
    weight: float
    columns: tuple[SampledColumn, ...]
    image_reuse: float = 0.0
    image_window: int = WINDOW


@dataclass(frozen=True)
class Mix:
    """Classes of requests by weight; a request depends on the seed and its number alone."""

    name: str
    classes: tuple[MixClass, ...]

    def sample(self, arrival_s: Array, seed: int = 0) -> Requests:
        """Requests of the mix, one for each arrival.

        Parameters
        ----------
        arrival_s : numpy.ndarray
            Seconds, non-decreasing.
        seed : int
            The same seed gives the same requests for any arrivals; a longer run starts with the same requests.

        Raises
        ------
        InputError
            If an image has more pixels than any model takes.
        """
        requests = make_requests(arrival_s, **DEFAULTS)
        indices = np.arange(len(arrival_s))
        class_indices = tuple((index,) for index in range(len(self.classes)))
        distribution = EmpiricalDistribution(class_indices, tuple(mix_class.weight for mix_class in self.classes))
        class_of = SampledColumn((CLASS_STREAM,), distribution).take(seed, indices)[CLASS_STREAM]
        for index, mix_class in enumerate(self.classes):
            rows = indices[class_of == index]
            for column in mix_class.columns:
                for field, values in column.take(seed, rows).items():
                    getattr(requests, field)[rows] = values
            if mix_class.image_reuse:
                _reuse_images(requests, rows[requests.num_images[rows] > 0], mix_class, seed)
        pixels = requests.image_height * requests.image_width
        if len(requests) and pixels.max() > LARGEST_IMAGE_PIXELS:
            height, width = requests.image_height[pixels.argmax()], requests.image_width[pixels.argmax()]
            raise InputError(
                f"{self.name}: image_height x image_width",
                f"{height} x {width}",
                f"give at most {LARGEST_IMAGE_PIXELS} pixels",
            )
        # A request without images has no visual tokens.
        without_images = requests.num_images == 0
        requests.visual_tokens[without_images] = np.minimum(requests.visual_tokens[without_images], 0)
        return requests


def _reuse_images(requests: Requests, rows: Array, mix_class: MixClass, seed: int) -> None:
    """Give a share of these requests the images of an earlier one, chosen uniformly from the window.

    Each request's images are then repeated by ``image_reuse`` later requests on average, and those in turn: a branching
    process, in which an image occurs in ``1 / (1 - image_reuse)`` requests (Feller 1968, section XII.5).
    """
    reuse_seed = seed_of(seed, "image_reuse")
    index = np.arange(len(rows))
    reuses = uniform_samples(reuse_seed, 0, rows.astype(np.uint64)) < mix_class.image_reuse
    distance = uniform_samples(reuse_seed, 1, rows.astype(np.uint64)) * np.minimum(index, mix_class.image_window)
    source = np.where(reuses & (index > 0), index - 1 - distance.astype(np.int64), index)
    # Each request points to an earlier one: follow the chain to the request whose images are new.
    while (source[source] != source).any():
        source = source[source]
    requests.image_of[rows] = rows[source]
    for field in IMAGE_COLUMNS:
        column = getattr(requests, field)
        column[rows] = column[rows[source]]


def fixed_mix(*, image_reuse: float = 0.0, **values: int) -> Mix:
    """Mix of requests that are all alike.

    Parameters
    ----------
    image_reuse : float
        Share of the requests that repeat the images of an earlier one, in [0, 1].
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
    """Refuse columns that give images both by size and by tokens."""
    fields = {field for column in columns for field in column.fields}
    if "visual_tokens" in fields and fields & {"image_height", "image_width"}:
        raise InputError(where, sorted(fields & set(IMAGE_COLUMNS)), "give either the image's size or its tokens")
