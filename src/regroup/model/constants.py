"""What published weights expect of their inputs: CLIP's text ids, ImageNet's statistics."""

CLIP_CONTEXT = 77
"""The most tokens of a text."""

CLIP_VOCABULARY = 49408
"""Number of ids of CLIP's byte-pair encoding; its last two start and end a text."""

START_OF_TEXT, END_OF_TEXT = CLIP_VOCABULARY - 2, CLIP_VOCABULARY - 1

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Of red, green and blue, where white is 1."""

IMAGENET_STD = (0.229, 0.224, 0.225)
"""Their standard deviations."""
