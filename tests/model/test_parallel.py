"""Two processes train as one with the joined batch does; without any of what makes them equal they do not."""

import copy
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torch.distributed as dist
from torch import nn

from lmht.gen.cli import main
from lmht.model import (
    NetworkConfig,
    RunConfig,
    TimeBatchNorm,
    TrainingConfig,
    build_network,
    load_checkpoint,
    train,
)
from lmht.model.joined_norm import JoinedBatchNorm, join_norms
from lmht.model.parallel import Processes, current_processes, torchrun_processes

from .parallel_cases import COUNT, DATASET, FAULTS, NETWORKS, RECIPE, run_updates

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
UPDATE_FAULTS = [
    *(
        (network, fault)
        for network in ("dense", "conv")
        for fault in FAULTS
        if fault not in ("none", "own spikes")
    ),
    ("spikes", "own spikes"),
]
TRAIN_FAULTS = [("dense", "own statistics"), ("conv", "own statistics"), ("conv", "own gradient")]
CASES = [
    *(f"{what}:{network}:none" for what in ("updates", "train") for network in NETWORKS),
    *(f"updates:{network}:{fault}" for network, fault in UPDATE_FAULTS),
    *(f"train:{network}:{fault}" for network, fault in TRAIN_FAULTS),
    "interrupted:conv:none",
]


def start_processes(out, *cases):
    """Two processes that run the cases; their exit statuses."""
    command = [sys.executable, "-m", "tests.model.parallel_cases"]
    started = [
        subprocess.Popen(
            [*command, str(rank), str(out / "store"), str(out), *cases], cwd=ROOT, env=ENVIRONMENT
        )
        for rank in range(COUNT)
    ]
    try:
        return [process.wait(timeout=300) for process in started]
    finally:
        for process in started:
            process.kill()


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """Folder with what two processes made of all cases."""
    out = tmp_path_factory.mktemp("together")
    assert start_processes(out, *CASES) == [0, 0]
    return out


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Folder with the runs of one process."""
    out = tmp_path_factory.mktemp("alone")
    for name, network in NETWORKS.items():
        train(network, RECIPE, DATASET, out / name, progress=False)
    return out


def assert_same_updates(network, path):
    """Rounding apart, which in float64 leaves all spikes the same; mean levels are summed in float32."""
    torch.testing.assert_close(safetensors.torch.load_file(path), run_updates(network), rtol=1e-7, atol=1e-9)


def assert_same_run(alone, together):
    """Records and weights of two runs are close; accuracies are equal, since the images are told apart well."""
    expected, (network, run) = load_checkpoint(alone), load_checkpoint(together)
    assert len(run.history) == len(expected[1].history) == RECIPE.epochs
    for record, wanted in zip(run.history, expected[1].history, strict=True):
        assert record.loss == pytest.approx(wanted.loss, rel=1e-5)
        assert record.learning_rate == wanted.learning_rate
        assert record.coding_seed == wanted.coding_seed
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(tensor, expected[0].state_dict()[name], rtol=1e-3, atol=1e-4)
    assert run.test_accuracy == expected[1].test_accuracy


@pytest.mark.parametrize("network", NETWORKS)
def test_updates_are_those_of_the_joined_batch(together, network):
    assert_same_updates(network, together / f"updates:{network}:none")


@pytest.mark.parametrize(("network", "fault"), UPDATE_FAULTS)
def test_planted_fault_of_the_updates_is_found(together, network, fault):
    with pytest.raises(AssertionError):
        assert_same_updates(network, together / f"updates:{network}:{fault}")


@pytest.mark.parametrize("network", NETWORKS)
def test_training_is_that_of_one_process(alone, together, network):
    assert_same_run(alone / network, together / f"train:{network}:none")


@pytest.mark.parametrize(("network", "fault"), TRAIN_FAULTS)
def test_planted_fault_of_a_training_is_found(alone, together, network, fault):
    with pytest.raises(AssertionError):
        assert_same_run(alone / network, together / f"train:{network}:{fault}")


def test_all_processes_return_the_same_record(together):
    records = [(together / f"train:conv:none.{rank}.json").read_text() for rank in range(COUNT)]
    assert records[0] == records[1]
    assert RunConfig.model_validate_json(records[0]) == load_checkpoint(together / "train:conv:none")[1]


def test_interrupted_run_resumes_to_the_same_bits(together):
    resumed, whole = (together / f"{what}:conv:none" for what in ("interrupted", "train"))
    assert sorted(path.name for path in resumed.iterdir()) == ["config.json", "model.safetensors"]
    for path in resumed.iterdir():
        assert path.read_bytes() == (whole / path.name).read_bytes()


def test_process_that_ends_ends_the_other(tmp_path):
    assert start_processes(tmp_path, "lost:dense:none") == [0, 3]
    message = (tmp_path / "lost:dense:none.txt").read_text()
    assert message == "process 0 of 2 cannot go on: another one has ended"
    assert not load_checkpoint(tmp_path / "lost:dense:none")[1].finished


def test_torchrun(tmp_path):
    """The command line: one of the processes speaks, and the record is that of a single process."""
    options = ["train", "--net", "64-16-10", "--epochs", "1", "--out"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launcher, "-m", "lmht.gen.cli", *options, str(tmp_path / "two")],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch 1 of 1") == 1
    assert "Warning" not in done.stderr
    assert main([*options, str(tmp_path / "one")]) == 0
    one, two = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("one", "two"))
    assert two["history"][0]["loss"] == pytest.approx(one["history"][0]["loss"], rel=1e-5)
    assert two["training"] == one["training"]


def test_batch_that_cannot_be_shared():
    Processes(1, 3).check_batch(63)
    with pytest.raises(ValueError, match="batch_size") as caught:
        Processes(1, 3).check_batch(64)
    assert str(caught.value) == (
        "batch_size, or all training images where they are fewer, must be divisible by 3, the number of processes, "
        "not 64"
    )


@pytest.mark.parametrize("batch_size", [80, 128])
def test_train_refuses_batches_that_cannot_be_shared(tmp_path, monkeypatch, batch_size):
    """Before anything is removed; also where there are fewer images than ``batch_size``."""
    monkeypatch.setattr("lmht.model.training.current_processes", lambda: Processes(0, 3))
    recipe = TrainingConfig(batch_size=batch_size, validation_fraction=0.0)
    with pytest.raises(ValueError, match=r"must be divisible by 3, the number of processes, not 80$"):
        train(NETWORKS["dense"], recipe, DATASET, tmp_path / "run", overwrite=True)
    assert not (tmp_path / "run").exists()


def test_shares_are_in_order_of_rank():
    batch = torch.arange(6)
    assert [Processes(rank, 3).share(batch).tolist() for rank in range(3)] == [[0, 1], [2, 3], [4, 5]]
    assert current_processes() == Processes(0, 1)


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("cuda:1", "device must be cpu or cuda for several processes, not 'cuda:1'"),
        ("cuda", "device must be cpu for more processes than the 0 GPUs of a machine, not 'cuda'"),
    ],
)
def test_device_of_several_processes(monkeypatch, device, message):
    for name, value in (("TORCHELASTIC_RUN_ID", "run"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "0")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ValueError, match="device") as caught, torchrun_processes(device):
        pass
    assert str(caught.value) == message


def test_torchrun_with_one_process_joins_no_group(monkeypatch):
    for name, value in (("TORCHELASTIC_RUN_ID", "run"), ("WORLD_SIZE", "1")):
        monkeypatch.setenv(name, value)
    with torchrun_processes("cuda:1") as found:
        assert found == (Processes(), "cuda:1")


def test_joined_norms_keep_names_tensors_and_evaluation():
    network = build_network(NetworkConfig(architecture="64-8-3", input_shape=(1, 8, 8))).eval()
    images = torch.rand(5, 1, 8, 8)
    expected, before = network(images), dict(network.state_dict(keep_vars=True))
    join_norms(network)
    join_norms(network)
    assert isinstance(network.layers[0].norm, JoinedBatchNorm)
    after = network.state_dict(keep_vars=True)
    assert list(after) == list(before)
    assert all(after[name] is before[name] for name in before)
    assert torch.equal(network(images), expected)


@pytest.fixture
def _group_of_one(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("_group_of_one")
@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (nn.BatchNorm2d, (6, 3, 4, 5)),
        (partial(nn.BatchNorm2d, affine=False, momentum=None), (6, 3, 4, 5)),
        (partial(nn.BatchNorm1d, track_running_stats=False), (12, 3)),
        (nn.BatchNorm1d, (6, 3, 4)),
        (nn.BatchNorm3d, (2, 3, 2, 3, 4)),
        (TimeBatchNorm, (2, 6, 3)),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_joined_norm_of_one_process_is_an_ordinary_one(make, shape, dtype):
    """Values, gradients and running averages, for all options and also for bfloat16 with weights in float32."""
    plain = make(3).to(torch.promote_types(dtype, torch.float32))
    if plain.affine:
        nn.init.uniform_(plain.weight, 0.5, 2)
        nn.init.uniform_(plain.bias)
    joined = copy.deepcopy(plain)
    join_norms(joined)
    torch.manual_seed(0)
    for _ in range(2):
        value = (torch.randn(shape) * 3 + 2).to(dtype)
        upstream = torch.randn(shape).to(dtype)
        found = []
        for norm in (joined, plain):
            own = value.clone().requires_grad_()
            output = norm(own)
            output.backward(upstream)
            found.append([output, own.grad, *(part.grad for part in norm.parameters()), *norm.buffers()])
        tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2}[dtype]
        torch.testing.assert_close(*found, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(joined.eval()(value), plain.eval()(value))


def test_join_norms_refuses_other_batch_norms():
    class Odd(nn.BatchNorm2d):
        pass

    with pytest.raises(ValueError, match="batch norm") as caught:
        join_norms(nn.Sequential(nn.BatchNorm2d(1), Odd(1)))
    assert str(caught.value) == (
        "batch norm '1' must be an nn.BatchNorm1d, BatchNorm2d, BatchNorm3d or TimeBatchNorm itself to be trained by "
        "several processes, not a Odd"
    )
