"""The benchmark of accelerators runs anywhere at a tiny size, and says so where there is nothing to measure on."""

import sys
from importlib.util import find_spec

import msgspec
import pytest

from benchmarks.gpu import (
    CASES,
    MODELS,
    OURS,
    TRL_APART,
    Order,
    _sized,
    _write,
    floating_point_operations,
    main,
    peak_of,
)
from tests.trainers.launching import python

with_torch = pytest.mark.skipif(find_spec("trl") is None, reason="trains, with the extra train")


def test_without_a_device_it_says_so(tmp_path):
    """Where there is no CUDA device, or no torch, the benchmark says what it needs, and that is no failure."""
    said = python("-m", "benchmarks.gpu", "--data", tmp_path, environment={"CUDA_VISIBLE_DEVICES": ""}).out
    assert "nothing measured" in said
    assert "one CUDA device" in said


@pytest.mark.parametrize(
    "asked",
    [["--warm", "-1"], ["--warm", "3", "--steps", "3"], ["--case", "sftt"], ["--side", "theirs"], ["--split", "0"]],
)
def test_what_cannot_be_measured_is_refused(asked, monkeypatch, capsys):
    """Steps of which none is measured, and cases and sides that there are none of: each is an error of usage."""
    monkeypatch.setattr(sys, "argv", ["gpu", *asked])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert asked[0] in capsys.readouterr().err


def test_the_operations_that_a_token_takes():
    """MFU counts 6 operations a weight and 12 for each place that attention looks at; frozen weights take 4."""
    config = MODELS["7b"]
    attention = 12 * 32 * 4096 * 2048
    assert floating_point_operations(config, 6_600_000_000, 0, 2048) == 6 * 6.6e9 + attention
    assert floating_point_operations(config, 6_600_000_000, 40_000_000, 2048) == 4 * 6.56e9 + 6 * 4e7 + attention
    assert peak_of("NVIDIA H200") == peak_of("NVIDIA H100 80GB HBM3") == 989e12
    assert peak_of("cpu") is None


@with_torch
@pytest.mark.filterwarnings("ignore:`(is_)?gradient_checkpointing")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_all_sides_train_on_the_same_batches(tmp_path):
    """A side's figures are of the steps after the first ones; all sides see the same tokens, and learn alike."""
    side = pytest.importorskip("benchmarks.gpu_side")
    side.torch.set_num_threads(1)
    case = _sized(CASES[0], tiny=True)
    case = msgspec.structs.replace(case, stages=_sized(CASES[2], tiny=True).stages[:2])
    _write(tmp_path / "case", case, steps=3)
    order = Order(case, OURS, steps=3, warm=1, folder=str(tmp_path / "case"))
    ours, theirs = (side.run(msgspec.structs.replace(order, side=name)) for name in (OURS, TRL_APART))
    _write(tmp_path / "again", case, steps=3)
    whole = side.run(msgspec.structs.replace(order, warm=0, folder=str(tmp_path / "again")))
    assert [one.length for one in ours] == [stage.length for stage in case.stages]
    for one in ours:
        rows = next(stage.rows for stage in case.stages if stage.length == one.length)
        assert one.tokens_per_second * one.seconds == pytest.approx(2 * rows * one.length)
        assert 0 < one.trained_per_second < one.tokens_per_second
        assert 0 <= one.wait < 1
        assert one.peak > 0
        assert one.mfu is None
    # With no first step left out, there are three of them.
    assert [one.tokens_per_second * one.seconds * 2 / 3 for one in whole] == pytest.approx(
        [one.tokens_per_second * one.seconds for one in ours]
    )
    assert [one.loss for one in whole] == [one.loss for one in ours]
    assert {one.side for one in theirs} == {TRL_APART}
    assert [one.loss for one in theirs] == pytest.approx([one.loss for one in ours], rel=5e-3)
    for one, other in zip(ours, theirs, strict=True):
        assert other.trained_per_second * other.seconds == pytest.approx(one.trained_per_second * one.seconds)
