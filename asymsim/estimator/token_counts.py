"""Token counts of a request, from its images, text and output length by the model's image rule."""

from __future__ import annotations

from asymsim.catalogue.images.base import ImageTokens
from asymsim.catalogue.model import VlmModel
from asymsim.core.token_counts import TokenCounts
from asymsim.estimator.scenario import Scenario
from asymsim.util.errors import InputError
from asymsim.util.strict import strict_dataclass

# Pillow raises DecompressionBombError above twice its MAX_IMAGE_PIXELS (Pillow documentation, Image module).
LARGEST_IMAGE_PIXELS = 178_956_970
# Above these a number is a typing error; they also keep products of counts within 64 bits.
LARGEST_TOKENS = 10**8
LARGEST_BATCH = 10**6
LARGEST_IMAGES = 10**4


@strict_dataclass
class RequestTokens:
    """Token counts of one request, of which ``batch_size`` run at once.

    Attributes
    ----------
    num_images : int
        Images a request.
    image : ImageTokens or None
        Counts of one image; None without images.
    visual_tokens : int
        Visual tokens of the request, all images together.
    text_tokens, output_tokens : int
        Prompt text (chat template included) and generated tokens.
    batch_size : int
    """

    num_images: int
    image: ImageTokens | None
    visual_tokens: int
    text_tokens: int
    output_tokens: int
    batch_size: int

    def token_counts(self) -> TokenCounts:
        """The counts as the kernels take them."""
        image = self.image
        if image is None:
            return TokenCounts(0, 0, 0, 0, 0, 0, 0, self.text_tokens, self.output_tokens, self.batch_size)
        return TokenCounts(
            self.num_images,
            image.sequences,
            image.sequence_tokens,
            image.patches,
            image.window_pairs,
            image.projector_tokens,
            self.visual_tokens,
            self.text_tokens,
            self.output_tokens,
            self.batch_size,
        )


def _check_range(field: str, value: int, lowest: int, highest: int) -> None:
    if not lowest <= value <= highest:
        raise InputError(field, value, f"give a whole number from {lowest} to {highest}")


def request_tokens(
    model: VlmModel,
    *,
    num_images: int | None = None,
    image_height: int | None = None,
    image_width: int | None = None,
    visual_tokens: int | None = None,
    text_tokens: int = 64,
    output_tokens: int = 128,
    batch_size: int = 1,
) -> RequestTokens:
    """Token counts of a request: visual ones by the model's image rule, or ``visual_tokens`` outright.

    Parameters
    ----------
    num_images : int, optional
        1 by default where the model sees images.
    image_height, image_width : int, optional
        Pixels; by default the model's typical image.
    visual_tokens : int, optional
        Visual tokens of all images together, instead of image sizes.

    Raises
    ------
    InputError
        If a number is out of range or the arguments contradict each other.
    """
    _check_range("text_tokens", text_tokens, 1, LARGEST_TOKENS)
    _check_range("output_tokens", output_tokens, 1, LARGEST_TOKENS)
    _check_range("batch_size", batch_size, 1, LARGEST_BATCH)
    if num_images is not None:
        _check_range("num_images", num_images, 0, LARGEST_IMAGES)
    if visual_tokens is not None:
        _check_range("visual_tokens", visual_tokens, 0, LARGEST_TOKENS)
    rule = model.image_rule
    if rule is None:
        if num_images or visual_tokens:
            raise InputError("num_images", num_images or visual_tokens, f"{model.name} takes no images")
        images, image, visual = 0, None, 0
    else:
        images = 1 if num_images is None else num_images
        if visual_tokens is not None:
            if image_height is not None or image_width is not None:
                raise InputError("visual_tokens", visual_tokens, "give either the image's size or its tokens")
            if images == 0 and visual_tokens > 0:
                raise InputError("num_images", images, "visual tokens need an image")
            images = min(images, visual_tokens)
            image = rule.tokens_for(-(-visual_tokens // images)) if images else None
            visual = visual_tokens
        else:
            image = _tokens_of_size(model, image_height, image_width) if images else None
            visual = images * image.visual_tokens if image else 0
    return RequestTokens(
        num_images=images,
        image=image,
        visual_tokens=visual,
        text_tokens=text_tokens,
        output_tokens=output_tokens,
        batch_size=batch_size,
    )


def _tokens_of_size(model: VlmModel, height: int | None, width: int | None) -> ImageTokens:
    assert model.image_rule is not None
    default_height, default_width = model.image_rule.default_size()
    height = default_height if height is None else height
    width = default_width if width is None else width
    for field, value in (("image_height", height), ("image_width", width)):
        if value < 1:
            raise InputError(field, value, "give 1 pixel or more")
    if height * width > LARGEST_IMAGE_PIXELS:
        raise InputError(
            "image_height x image_width", f"{height} x {width}", f"give at most {LARGEST_IMAGE_PIXELS} pixels"
        )
    return model.image_rule.tokens(height, width)


def scenario_tokens(scenario: Scenario, model: VlmModel) -> RequestTokens:
    """The token counts that a scenario's images, text and output make on a model."""
    return request_tokens(
        model,
        num_images=scenario.num_images,
        image_height=scenario.image_height,
        image_width=scenario.image_width,
        visual_tokens=scenario.visual_tokens,
        text_tokens=scenario.text_tokens,
        output_tokens=scenario.output_tokens,
        batch_size=scenario.batch_size,
    )


# Bounds of a scenario's token counts, and of the fields that a model's image rule turns into token counts.
TOKEN_BOUNDS = {
    "text_tokens": (1, LARGEST_TOKENS),
    "output_tokens": (1, LARGEST_TOKENS),
    "batch_size": (1, LARGEST_BATCH),
}
IMAGE_BOUNDS = {
    "num_images": (0, LARGEST_IMAGES),
    "image_height": (1, LARGEST_IMAGE_PIXELS),
    "image_width": (1, LARGEST_IMAGE_PIXELS),
    "visual_tokens": (0, LARGEST_TOKENS),
}
