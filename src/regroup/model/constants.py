"""What published weights expect of their inputs, and names that data, model and losses share."""

from typing import Literal

Padding = Literal["caption", "null", "mask", "denominator"]
"""What stands where an image has fewer labels than places (sections 4.1 and 5.7).

`caption`: the caption again; `null`: an embedding of zeros; `mask`: nothing, the place is left out;
`denominator`: an embedding of zeros that is compared with and never aimed at.
"""

CLIP_CONTEXT = 77
"""The most tokens of a text."""

CLIP_VOCABULARY = 49408
"""Number of ids of CLIP's byte-pair encoding; its last two start and end a text."""

START_OF_TEXT, END_OF_TEXT = CLIP_VOCABULARY - 2, CLIP_VOCABULARY - 1

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Of red, green and blue, where white is 1."""

IMAGENET_STD = (0.229, 0.224, 0.225)
"""Their standard deviations."""
