"""Decoding of every kind of image file, and the training augmentation."""

import io
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from regroup.captions.images import BrokenImageError, Pixels, decode_rgb
from regroup.captions.randomness import mix, sample_keys, uniforms
from regroup.model.constants import IMAGENET_MEAN, IMAGENET_STD
from regroup.training import augmentation
from regroup.training.augmentation import Augmentation, AugmentationSettings, normalise

OPERATIONS = {operation.__name__.strip("_"): operation for operation in augmentation.RAND_AUGMENT}
NOTHING = AugmentationSettings(
    crop_scale=(1, 1), crop_ratio=(1, 1), flip=0, rand_augment_ops=0, colour_jitter=0, erasing=0
)


def noise(height: int, width: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


# --- decoding


def test_rgb_is_decoded_as_it_is() -> None:
    pixels = noise(7, 5)
    assert np.array_equal(decode_rgb(encoded(Image.fromarray(pixels), "PNG")), pixels)


def test_grey_becomes_rgb_of_equal_channels() -> None:
    grey = noise(6, 9)[..., 0]
    decoded = decode_rgb(encoded(Image.fromarray(grey), "PNG"))
    assert np.array_equal(decoded, np.repeat(grey[..., None], 3, axis=2))


def test_16_bit_grey_is_rounded_to_8() -> None:
    grey = np.array([[0, 128, 129, 255, 257, 0x1234, 65406, 65407, 65535]], dtype=np.uint16)
    for kind in ("PNG", "TIFF"):
        decoded = decode_rgb(encoded(Image.fromarray(grey), kind))
        assert decoded[0, :, 1].tolist() == [0, 0, 1, 1, 1, 18, 254, 255, 255]


def test_cmyk_has_the_colours_it_was_made_from() -> None:
    image = Image.new("RGB", (16, 16), (200, 40, 90))
    decoded = decode_rgb(encoded(image.convert("CMYK"), "JPEG", quality=100))
    assert np.abs(decoded.astype(int) - (200, 40, 90)).max() <= 3


def test_an_exif_rotated_photo_stands_upright() -> None:
    upright = noise(8, 12)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    lying = Image.fromarray(np.rot90(upright).copy())
    assert np.array_equal(decode_rgb(encoded(lying, "PNG", exif=exif)), upright)


def test_transparent_pixels_are_white() -> None:
    pixels = np.concatenate([noise(4, 4), np.full((4, 4, 1), 255, np.uint8)], axis=2)
    pixels[1:, :, 3] = 0
    decoded = decode_rgb(encoded(Image.fromarray(pixels), "PNG"))
    assert np.array_equal(decoded[:1], pixels[:1, :, :3])
    assert (decoded[1:] == 255).all()


def test_a_palette_image_has_its_palettes_colours() -> None:
    image = Image.fromarray(np.repeat(np.array([[0, 1, 2, 1]], np.uint8), 2, axis=0))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    assert decode_rgb(encoded(image, "PNG"))[1].tolist() == [
        [10, 20, 30],
        [40, 50, 60],
        [70, 80, 90],
        [40, 50, 60],
    ]


@pytest.mark.parametrize(
    "content", [b"", b"no image", encoded(Image.fromarray(noise(64, 64)), "JPEG")[:-400]]
)
def test_what_is_no_whole_image_is_broken(content: bytes) -> None:
    with pytest.raises(BrokenImageError):
        decode_rgb(content)


# --- random numbers


def test_the_hash_is_splitmix64() -> None:
    """First outputs of SplitMix64 seeded with 1234567, as published with its reference code."""
    golden = 0x9E3779B97F4A7C15
    states = np.array([(1234567 + n * golden) % 2**64 for n in range(3)], dtype=np.uint64)
    assert mix(states).tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_uniforms_are_uniform_and_the_purposes_independent() -> None:
    keys = sample_keys(3, 1, np.arange(4000))
    one, two = uniforms(keys, 5), uniforms(keys, 5, purpose=1)
    assert one.min() >= 0
    assert one.max() < 1
    counts = np.histogram(one, bins=20, range=(0, 1))[0]
    assert ((counts - 1000) ** 2 / 1000).sum() < 43.8  # chi-square with 19 degrees of freedom, p = 0.001
    correlations = np.corrcoef(np.concatenate([one, two], axis=1).T) - np.eye(10)
    assert np.abs(correlations).max() < 0.07


# --- augmentation


def test_without_augmentation_a_view_is_the_normalised_image() -> None:
    image = noise(32, 32)
    view = Augmentation(32, NOTHING)([image], keys=sample_keys(0, 0, [0]))
    expected = (image.astype(np.float64) / 255 - IMAGENET_MEAN) / IMAGENET_STD
    assert view.dtype == torch.float32
    assert np.allclose(view[0].permute(1, 2, 0).numpy(), expected, atol=1e-5)


def test_views_depend_on_the_key_alone() -> None:
    images = [noise(40 + n, 60 - n, n) for n in range(24)]
    keys = sample_keys(1, 2, np.arange(24))
    augment = Augmentation(24)
    whole = augment(images, keys=keys)
    order = np.random.default_rng(1).permutation(24)
    parts = [augment([images[n] for n in part], keys=keys[part]) for part in np.array_split(order, 5)]
    assert torch.equal(torch.cat(parts), whole[torch.from_numpy(order)])
    other = augment(images, keys=sample_keys(1, 3, np.arange(24)))
    assert all(not torch.equal(one, two) for one, two in zip(whole, other, strict=True))


@pytest.mark.parametrize("shape", [(1, 1), (1, 200), (200, 1), (3, 500), (2000, 10)])
def test_tiny_and_narrow_images_give_finite_views(shape: tuple[int, int]) -> None:
    views = Augmentation(16)([noise(*shape)] * 50, keys=sample_keys(0, 0, np.arange(50)))
    assert views.shape == (50, 3, 16, 16)
    assert torch.isfinite(views).all()


def crops(settings: AugmentationSettings, height: int, width: int, count: int) -> np.ndarray:
    """Recover each crop's box from an image whose pixels tell their place."""
    x, y = np.meshgrid(np.linspace(0, 250, width), np.linspace(0, 250, height))
    image = np.stack([x, y, np.zeros_like(x)], axis=-1).astype(np.uint8)
    views = Augmentation(200, settings)([image] * count, keys=sample_keys(5, 0, np.arange(count)))
    planes = (views * torch.tensor(IMAGENET_STD).view(1, 3, 1, 1)) + torch.tensor(IMAGENET_MEAN).view(
        1, 3, 1, 1
    )
    places = planes[:, :2].mul(255 / 250).numpy()
    return np.stack(
        [
            places[:, 1].min(axis=(1, 2)),
            places[:, 0].min(axis=(1, 2)),
            places[:, 1].max(axis=(1, 2)),
            places[:, 0].max(axis=(1, 2)),
        ],
        axis=1,
    )


def test_crops_have_the_stated_areas_ratios_and_places() -> None:
    settings = NOTHING.model_copy(update={"crop_scale": (0.08, 1.0), "crop_ratio": (3 / 4, 4 / 3)})
    boxes = crops(settings, 240, 240, 600)
    heights, widths = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    areas, ratios = heights * widths, widths / heights
    assert areas.min() > 0.07
    assert np.quantile(areas, 0.25) == pytest.approx(0.30, abs=0.05)
    assert ratios.min() > 0.72
    assert ratios.max() < 1.38
    assert np.median(ratios) == pytest.approx(1.0, abs=0.04)
    assert np.quantile(np.log(ratios), 0.2) == pytest.approx(0.6 * np.log(3 / 4), abs=0.05)
    for start, side in ((boxes[:, 0], heights), (boxes[:, 1], widths)):
        small = side < 0.7
        quarters = np.quantile(start[small] / (1 - side[small]), [0.25, 0.5, 0.75])
        assert quarters == pytest.approx([0.25, 0.5, 0.75], abs=0.08)


def test_a_shrunk_crop_is_averaged_not_sampled() -> None:
    board = np.indices((64, 64)).sum(axis=0) % 2 * 254
    image = np.repeat(board[..., None], 3, axis=2).astype(np.uint8)
    view = Augmentation(16, NOTHING)([image], keys=sample_keys(0, 0, [0]))
    grey = normalise(torch.full((1, 16, 16, 3), 127, dtype=torch.uint8))
    assert torch.allclose(view, grey, atol=0.02)


def test_half_of_the_views_are_mirrored() -> None:
    image = np.repeat(np.arange(0, 240, 4, dtype=np.uint8)[None, :, None], 60, axis=0).repeat(3, axis=2)
    settings = NOTHING.model_copy(update={"flip": 0.5})
    views = Augmentation(60, settings)([image] * 400, keys=sample_keys(0, 0, np.arange(400)))
    mirrored = (views[:, 0, 0, 0] > views[:, 0, 0, -1]).sum().item()
    assert 150 < mirrored < 250


def test_a_quarter_of_the_views_lose_a_box_to_noise() -> None:
    settings = NOTHING.model_copy(update={"erasing": 0.25})
    image = np.full((64, 64, 3), 128, np.uint8)
    plain = normalise(torch.from_numpy(image)[None])[0]
    views = Augmentation(64, settings)([image] * 800, keys=sample_keys(0, 0, np.arange(800)))
    changed = (views != plain).any(dim=1)
    shares = changed.flatten(1).float().mean(dim=1)
    erased = shares > 0
    assert 150 < erased.sum() < 250
    assert shares[erased].min() > 0.015
    assert shares[erased].max() < 0.36
    values = views.permute(0, 2, 3, 1)[changed]
    assert values.mean().item() == pytest.approx(0, abs=0.01)
    assert values.std().item() == pytest.approx(1, abs=0.01)


def pil_affine(
    a: float, b: float, c: float, d: float, e: float, f: float
) -> Callable[[Image.Image], Image.Image]:
    """Pillow's transform by the inverse matrix, on pixel centres."""
    inverse = np.linalg.inv(np.array([[a, b, c], [d, e, f], [0, 0, 1]]))
    # Pillow counts from the corner of the first pixel, OpenCV from its centre
    inverse[:2, 2] += 0.5 - inverse[:2, :2] @ (0.5, 0.5)

    def transform(image: Image.Image) -> Image.Image:
        return image.transform(
            image.size,
            Image.Transform.AFFINE,
            tuple(inverse[:2].ravel()),
            Image.Resampling.BILINEAR,
            fillcolor=(128, 128, 128),
        )

    return transform


SIZE = 48
PILLOW: dict[str, tuple[float, float, Callable[[Image.Image], Image.Image]]] = {
    # name: (magnitude, sign, the same by Pillow)
    "identity": (0.9, 1, lambda image: image),
    "auto_contrast": (0.9, 1, ImageOps.autocontrast),
    "equalize": (0.9, 1, ImageOps.equalize),
    "posterize": (0.5, 1, lambda image: ImageOps.posterize(image, 6)),
    "solarize": (0.5, 1, lambda image: ImageOps.solarize(image, 128)),
    "colour": (0.5, 1, lambda image: ImageEnhance.Color(image).enhance(1.45)),
    "contrast": (0.5, -1, lambda image: ImageEnhance.Contrast(image).enhance(0.55)),
    "brightness": (0.5, 1, lambda image: ImageEnhance.Brightness(image).enhance(1.45)),
    "sharpness": (0.5, -1, lambda image: ImageEnhance.Sharpness(image).enhance(0.55)),
    "rotate": (0.5, 1, lambda image: image.rotate(15, Image.Resampling.BILINEAR, fillcolor=(128, 128, 128))),
    "shear_x": (0.5, 1, pil_affine(1, 0.15, 0, 0, 1, 0)),
    "shear_y": (0.5, -1, pil_affine(1, 0, 0, -0.15, 1, 0)),
    "translate_x": (0.5, 1, pil_affine(1, 0, 0.225 * SIZE, 0, 1, 0)),
    "translate_y": (0.5, -1, pil_affine(1, 0, 0, 0, 1, -0.225 * SIZE)),
}


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_operations_are_those_of_pillow(name: str) -> None:
    magnitude, sign, reference = PILLOW[name]
    smooth = Image.fromarray(noise(6, 6, 3)[..., :] // 2 + 40).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    expected = np.asarray(reference(smooth)).astype(int)
    ours = OPERATIONS[name](np.asarray(smooth), magnitude, sign).astype(int)
    difference = np.abs(ours - expected)
    inner = difference[12:-12, 12:-12] if name.startswith(("rotate", "shear", "translate")) else difference
    # the filters differ at the rim: sharpness leaves it alone in Pillow
    inner = inner[1:-1, 1:-1] if name == "sharpness" else inner
    exact = name in ("identity", "auto_contrast", "equalize", "posterize", "solarize")
    assert inner.max() <= (0 if exact else 3), inner.max()
    assert name == "identity" or (ours != np.asarray(smooth)).any()


def test_rand_augment_draws_every_operation_and_skips_as_told(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def watch(name: str) -> Callable[[Pixels, float, float], Pixels]:
        return lambda view, magnitude, sign: seen.append(f"{name} {magnitude} {sign}") or view

    watched = tuple(watch(name) for name in OPERATIONS)
    monkeypatch.setattr(augmentation, "RAND_AUGMENT", watched)
    settings = NOTHING.model_copy(update={"rand_augment_ops": 2, "rand_augment_probability": 0.5})
    Augmentation(8, settings)([noise(8, 8)] * 2000, keys=sample_keys(0, 0, np.arange(2000)))
    assert 1850 < len(seen) < 2150  # of 4,000
    assert set(seen) == {f"{name} 0.9 {sign}" for name in OPERATIONS for sign in (1.0, -1.0)}
