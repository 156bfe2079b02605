"""Segmentation: the fast path beside the plain one (mmseg's sliding window over every class of every pixel).

    python benchmarks/segmentation.py [--images 6] [--device cpu|cuda]

Images are noise of COCO's usual 640 x 480, the model has the real size and random weights, windows are 448
pixels: both paths encode the same windows, two an image. Times are medians, the two paths run in turns. Peak
memory is what a process of its own needs beyond the loaded model.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from common import Result, alternate, in_turns, record

from regroup.model import GroupViT, GroupViTConfig
from regroup.segmentation.datasets import evaluation_pipeline
from regroup.segmentation.evaluation import inference_mode
from regroup.segmentation.images import scale_image
from regroup.segmentation.inference import Decision, EncodedImage, encode_images, label_maps
from regroup.segmentation.mm import IoUMetric, quiet
from regroup.segmentation.prompts import embed_prompts
from regroup.segmentation.protocols import load_protocol
from regroup.segmentation.scores import PixelCounter, true_rows
from regroup.segmentation.segmentor import GroupViTSegmentor
from regroup.segmentation.settings import InferenceParams

PROTOCOLS = {81: "coco_object_stuffthingmaps", 150: "ade150"}
SIZE = (480, 640)
PARAMS = InferenceParams()
THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)


class Work:
    """One protocol's images, masks and model."""

    def __init__(self, classes: int, images: int, device: str) -> None:
        self.protocol = load_protocol(PROTOCOLS[classes])
        self.labels = self.protocol.labelled()
        self.device = device
        model = GroupViT(GroupViTConfig(), generator=torch.Generator().manual_seed(0)).eval()
        with torch.no_grad():
            model.logit_scale.fill_(4.6)
        self.model = model.to(device)
        rng = np.random.default_rng(0)
        self.images = [rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8) for _ in range(images)]
        self.masks = [
            torch.from_numpy(rng.integers(0, classes, SIZE)).int().to(device) for _ in range(images)
        ]
        self.segmentor = GroupViTSegmentor(self.model, self.protocol).to(device)
        self.classes = embed_prompts(self.model, self.labels.prompts)

    def plain(self) -> dict[str, float]:
        """Mmseg's path: preprocessing, sliding window, postprocessing and metric, image by image."""
        scale, pack = evaluation_pipeline(PARAMS)[1], evaluation_pipeline(PARAMS)[3]
        with quiet():
            metric = IoUMetric()
        metric.dataset_meta = {"classes": self.protocol.classes}
        for image, mask in zip(self.images, self.masks, strict=True):
            sample = {"img": image[..., ::-1], "img_shape": SIZE, "ori_shape": SIZE}
            packed = pack(scale({**sample, "gt_seg_map": mask.cpu().numpy()}))
            batch = {"inputs": [packed["inputs"]], "data_samples": [packed["data_samples"]]}
            metric.process(batch, [one.to_dict() for one in self.segmentor.test_step(batch)])
        with quiet():
            return metric.evaluate(len(self.images))

    def fast(self, thresholds: tuple[float, ...] | None = None, *, batch: int = 8) -> PixelCounter:
        """Our path, for one or several thresholds; the first one's counts."""
        decisions = [Decision(value, PARAMS.top_k) for value in thresholds or (self.protocol.threshold,)]
        counters = [PixelCounter(self.protocol.classes) for _ in decisions]
        scaled = (
            (mask, torch.from_numpy(np.ascontiguousarray(scale_image(image, PARAMS).transpose(2, 0, 1))))
            for image, mask in zip(self.images, self.masks, strict=True)
        )
        with inference_mode(self.model):
            for mask, encoded in encode_images(self.model, self.classes, scaled, PARAMS, batch=batch):
                rows = true_rows(mask, len(self.protocol.classes))
                maps = label_maps(encoded, self.labels, decisions, SIZE)
                for counter, one in zip(counters, maps, strict=True):
                    counter.add_rows(one, rows)
        counters[0].iou_metric()
        return counters[0]

    def encode(self) -> None:
        """The encoder's part of the fast path: both paths need it for the same windows."""
        scaled = (
            (None, torch.from_numpy(np.ascontiguousarray(scale_image(image, PARAMS).transpose(2, 0, 1))))
            for image in self.images
        )
        with inference_mode(self.model):
            for _ in encode_images(self.model, self.classes, scaled, PARAMS, batch=8):
                pass

    def encoded(self) -> EncodedImage:
        """One image, encoded."""
        pixels = torch.from_numpy(
            np.ascontiguousarray(scale_image(self.images[0], PARAMS).transpose(2, 0, 1))
        )
        with inference_mode(self.model):
            [(_, one)] = encode_images(self.model, self.classes, [(None, pixels)], PARAMS, batch=8)
        return one

    def timed(self, work: Callable[[], object]) -> Callable[[], object]:
        """The work, waited for on a GPU."""

        def run() -> object:
            result = work()
            if self.device == "cuda":
                torch.cuda.synchronize()
            return result

        return run


def compare(work: Work, classes: int, where: str) -> list[Result]:
    """Images a second of both paths, what follows the encoder on each, and what it leaves to gain."""
    number = len(work.images)
    works = {name: work.timed(getattr(work, name)) for name in ("plain", "fast", "encode")}
    times = in_turns(works, repeats=3)
    slow, quick, encoder = times["plain"], times["fast"], times["encode"]
    name = f"evaluation, {classes} classes{where}"
    rows = [Result(name, "images/s", number / quick, number / slow, slow / quick)]
    # the same encoder runs on both paths: were all else free, the ratio would still be no more than this
    name = f"evaluation, {classes} classes, bound by the encoder{where}"
    rows.append(Result(name, "images/s", number / encoder, number / slow, slow / encoder))
    one, mask, protocol = work.encoded(), work.masks[0], work.protocol
    features = one.features
    segmentor, decision = work.segmentor, Decision(protocol.threshold, PARAMS.top_k)

    def after_fast() -> None:
        counter = PixelCounter(protocol.classes)
        for ids in label_maps(one, work.labels, [decision], SIZE):
            counter.add(ids, mask)

    windows = iter(())
    encode = "regroup.segmentation.segmentor.encode_windows"

    def after_plain() -> None:
        nonlocal windows
        windows = iter(
            [type(features)(*(part[i : i + 1] for part in features)) for i in range(len(one.boxes))]
        )
        pixels = torch.zeros(1, 3, one.height, one.width, device=work.device)
        meta = [{"ori_shape": SIZE, "img_shape": (one.height, one.width)}]
        logits = segmentor.inference(pixels, meta)
        ids = torch.nn.functional.interpolate(logits, SIZE, mode="bilinear")[0].argmax(0)
        IoUMetric.intersect_and_union(ids, mask, len(protocol.classes), 255)

    with patch(encode, lambda *_: next(windows)), torch.inference_mode():
        slow, quick = alternate(work.timed(after_plain), work.timed(after_fast), repeats=5)
    name = f"after the encoder, {classes} classes{where}"
    return [*rows, Result(name, "ms/image", 1000 * quick, 1000 * slow, slow / quick)]


def cost_of_thresholds(work: Work, where: str) -> Result:
    """Time of eight thresholds over that of one."""
    one, eight = alternate(
        work.timed(lambda: work.fast((0.9,))), work.timed(lambda: work.fast(THRESHOLDS)), repeats=5
    )
    return Result(f"8 thresholds over 1{where}", "times the time", eight / one)


def peak(classes: int, method: str, images: int, device: str) -> float:
    """Peak memory of one method beyond the loaded model, in MB, in a process of its own."""
    command = [sys.executable, __file__, "--peak", method, "--classes", str(classes), "--images", str(images)]
    done = subprocess.run([*command, "--device", device], check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout)["megabytes"])


def measure_peak(work: Work, method: str) -> float:
    if work.device == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        getattr(work, method)()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    # Linux: forget the peak of loading, so that what follows is the work's own
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    getattr(work, method)()
    return memory("VmHWM") - before


def memory(field: str) -> float:
    """A line of /proc/self/status, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="of torch (1)")
    parser.add_argument("--peak", choices=("plain", "fast"), help=argparse.SUPPRESS)
    parser.add_argument("--classes", type=int, default=81, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.peak:
        work = Work(arguments.classes, arguments.images, arguments.device)
        print(json.dumps({"megabytes": measure_peak(work, arguments.peak)}))
        return
    where = "" if arguments.device == "cpu" else f", {torch.cuda.get_device_name()}"
    results = []
    for classes in PROTOCOLS:
        work = Work(classes, arguments.images, arguments.device)
        results += compare(work, classes, where)
        if classes == 81:
            results.append(cost_of_thresholds(work, where))
        del work
        plain, fast = (peak(classes, method, 2, arguments.device) for method in ("plain", "fast"))
        results.append(Result(f"peak memory, {classes} classes{where}", "MB", fast, plain, plain / fast))
    record(results)


if __name__ == "__main__":
    main()
