"""Several processes that train together: how long they wait for each other, and how a base is spread over them."""

from __future__ import annotations

import multiprocessing
import time
from datetime import timedelta
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from torch.distributed.fsdp import FSDPModule

from lightreasoner.errors import UserError
from lightreasoner.models.adapters import add_lora
from lightreasoner.settings import Settings
from lightreasoner.training import distributed
from lightreasoner.training.loss import PackedExample, Target, collate, step_logits
from lightreasoner.training.sharding import shard
from tests.support.tiny_models import tiny_model


def test_gpus_wait_for_each_other_over_gloo(monkeypatch):
    """Other ranks timed out in NCCL after ten minutes, while the first one waited for its accelerator or read data."""
    calls, devices = [], []
    world = SimpleNamespace(WORLD=object())
    monkeypatch.setattr(dist, "group", world)
    for name in ("init_process_group", "new_group", "barrier", "broadcast"):
        monkeypatch.setattr(dist, name, lambda *given, name=name, **named: calls.append((name, given, named)) or name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", devices.append)
    monkeypatch.setattr(distributed.atexit, "register", lambda act: None)
    monkeypatch.setattr(distributed, "_control", None)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(dist, "is_initialized", lambda: bool(calls))
    distributed.init_process_group()
    distributed.init_process_group()  # a second run in the same process
    assert [call[0] for call in calls] == ["init_process_group", "new_group"] and devices == [1, 1]
    assert calls[0][1] == ("nccl",) and "timeout" not in calls[0][2]  # a lost gradient is noticed
    assert calls[1][2]["backend"] == "gloo" and calls[1][2]["timeout"] > timedelta(days=1)
    distributed.barrier()
    assert distributed.broadcast(3) == 3
    assert calls[2][:2] == ("barrier", ("new_group",))
    tensor, *rest = calls[3][1]
    assert (tensor.device.type, int(tensor), *rest) == ("cpu", 3, 0, "new_group")
    for device, of_this_process in (("cuda:0", "cuda"), ("cuda:1,cuda:0", "cuda"), ("auto", "auto"), ("cpu", "cpu")):
        assert distributed.init_process_group(Settings(device=device)).device == of_this_process
    assert devices == [1] * 5, "with the device cpu no GPU is taken"
    world.WORLD = object()  # a cluster has made another group
    distributed.init_process_group()
    assert calls[-1][0] == "new_group"


def process(rank: int, store: str, seconds: float, dies: bool, told) -> None:
    monkey = pytest.MonkeyPatch()
    monkey.setenv("RANK", str(rank)), monkey.setenv("WORLD_SIZE", "2")
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=2, timeout=timedelta(seconds=1)
    )
    distributed.init_process_group()
    try:
        if rank == 0:
            time.sleep(seconds)
            if dies:
                return
        distributed.barrier()
        told.put((rank, distributed.broadcast(7 + rank)))
    except UserError as error:
        told.put((rank, str(error)))


@pytest.mark.parametrize(("dies", "told"), [(False, {0: 7, 1: 7}), (True, {1: "Another process of this training"})])
def test_the_others_wait_longer_than_a_message_may_take(tmp_path, dies, told):
    """A group with a second's patience, and a first process that needs longer; or that ends while it is waited for."""
    fork = multiprocessing.get_context("fork")
    queue = fork.Queue()
    both = [fork.Process(target=process, args=(rank, str(tmp_path / "store"), 1.5, dies, queue)) for rank in (0, 1)]
    for each in both:
        each.start()
    found = dict(queue.get(timeout=60) for _ in told)
    for each in both:
        each.join(60)
    assert {rank: value if isinstance(value, int) else value[:32] for rank, value in found.items()} == told


def test_the_stack_of_layers_is_the_root_of_a_spread_base(tmp_path):
    """Every layer was a root of its own, so none was gathered while another one computed."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        examples = [PackedExample([5] * 12, 4, (Target(3, (3,), (1.0,)),))]
        logits, gradients = [], []
        for spread in (False, True):
            model = add_lora(tiny_model(1).requires_grad_(False), 4, 8, 0.0, ("q_proj",), 0).train()
            if spread:
                shard(model, torch.device("cpu"), 1)
            logits.append(step_logits(model, collate(examples)))
            logits[-1].sum().backward()
            gradients.append([p.grad for p in model.parameters() if p.requires_grad])
        assert torch.equal(*logits) and all(map(torch.equal, *gradients))
        wrapped = [module for module in model.modules() if isinstance(module, FSDPModule)]
        roots = [module for module in wrapped if module._get_fsdp_state()._is_root]
        assert roots == [model.get_base_model().model] and len(wrapped) == 3
        assert len({id(module._get_fsdp_state()._comm_ctx) for module in wrapped}) == 1
    finally:
        dist.destroy_process_group()
