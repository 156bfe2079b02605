"""A checkpoint of ours in mmseg's own hands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine import Config
from PIL import Image

from regroup.model import GroupViT, save_checkpoint
from regroup.segmentation.evaluation import evaluate
from regroup.segmentation.resolved import resolve_dataset
from regroup.segmentation.segmentor import palette, segmentor_config
from regroup.segmentation.settings import DatasetParams, InferenceParams

SMALL = InferenceParams(short_side=48, window=48, stride=24)


@pytest.fixture
def checkpoint(tmp_path: Path, model: GroupViT) -> Path:
    save_checkpoint(model, tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def test_init_model_inference_model_and_visualiser(checkpoint: Path, voc: Path, tmp_path: Path) -> None:
    from mmseg.apis import inference_model, init_model, show_result_pyplot

    segmentor = init_model(Config(segmentor_config(checkpoint, "voc", SMALL)), device="cpu")
    path = voc / "VOCdevkit/VOC2012/JPEGImages/2007_000000.jpg"
    result = inference_model(segmentor, str(path))
    assert result.pred_sem_seg.data.shape == (1, 60, 90)
    assert result.seg_logits.data.shape == (21, 60, 90)
    assert segmentor.dataset_meta["classes"][20] == "monitor"
    drawn = show_result_pyplot(
        segmentor, str(path), result, show=False, save_dir=str(tmp_path), out_file=str(tmp_path / "drawn.png")
    )
    assert drawn.shape[:2] == (60, 90)
    assert (tmp_path / "drawn.png").stat().st_size > 500


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
def test_mmsegs_own_runner_gives_our_scores(
    checkpoint: Path, model: GroupViT, voc: Path, tmp_path: Path
) -> None:
    from mmengine.runner import Runner

    config = segmentor_config(checkpoint, "voc", SMALL)
    config["model"]["threshold"] = 0.1
    pipeline = [
        {"type": "ReadImage"},
        {"type": "ScaleShortSide", "short_side": 48},
        {"type": "ReadMask"},
        {"type": "PackSegInputs"},
    ]
    dataset = {"type": "ProtocolDataset", "protocol": "voc", "data_root": str(voc), "pipeline": pipeline}
    config.update(
        work_dir=str(tmp_path / "work"),
        test_dataloader={
            "batch_size": 1,
            "num_workers": 0,
            "sampler": {"type": "DefaultSampler", "shuffle": False},
            "dataset": dataset,
        },
        test_cfg={"type": "TestLoop"},
        test_evaluator={"type": "IoUMetric", "iou_metrics": ["mIoU"]},
        log_level="ERROR",
    )
    found = Runner.from_cfg(Config(config)).test()
    ours = evaluate(
        model, resolve_dataset(DatasetParams(source="voc12", protocol="voc", threshold=0.1), voc), SMALL
    )
    assert {key: round(float(found[key]), 2) for key in ours.iou_metric} == ours.iou_metric


def test_the_palette_is_vocs() -> None:
    import mmseg.datasets

    assert palette(21) == mmseg.datasets.PascalVOCDataset.METAINFO["palette"]
    assert len({tuple(colour) for colour in palette(150)}) == 150


def test_extra_classes_of_the_protocol_score_below_every_real_one(checkpoint: Path, model: GroupViT) -> None:
    from regroup.segmentation.protocols import load_protocol
    from regroup.segmentation.segmentor import OpenVocabularySegmentor

    labels = load_protocol("ade150").class_prompts(["sky", "sea"])
    segmentor = OpenVocabularySegmentor(model, "ade150", labels, window=48, stride=24)
    image = torch.randn(1, 3, 48, 60, generator=torch.Generator().manual_seed(0))
    logits = segmentor.inference(image, [{"ori_shape": (48, 60)}])[0]
    real = [2, 26]
    assert logits[real].min() >= 0
    others = np.setdiff1d(np.arange(150), real)
    assert logits[others].max() < 0
    assert Image.fromarray(logits.argmax(0).to(torch.uint8).numpy()).getextrema()[0] in real
