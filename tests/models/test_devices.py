"""Devices without one: the dtype by what a GPU can do, its memory, and the many ways of saying that it ran out."""

import gc
import weakref
from types import SimpleNamespace

import pytest
import torch
from safetensors import SafetensorError

from lightreasoner.decoding import batch_size
from lightreasoner.errors import UserError, log_unexpected
from lightreasoner.models.adapters import add_lora, attach_adapter, save_adapter
from lightreasoner.models.cache import LoadedModels
from lightreasoner.models.devices import (
    choose_device,
    choose_dtype,
    free_bytes,
    further_devices,
    is_out_of_memory,
    run_with_oom_backoff,
    unused_gpu,
)
from lightreasoner.models.loading import load_model
from lightreasoner.models.weights import Files
from lightreasoner.settings import Settings
from tests.support.tiny_models import save_tiny, tiny_model


@pytest.mark.parametrize(
    "card, capability, dtype",
    [
        ("P100", (6, 0), "float16"),
        ("V100", (7, 0), "float16"),
        ("T4", (7, 5), "float16"),
        ("A100", (8, 0), "bfloat16"),
        ("A10", (8, 6), "bfloat16"),
        ("L4", (8, 9), "bfloat16"),
        ("H200", (9, 0), "bfloat16"),
        ("B200", (10, 0), "bfloat16"),
    ],
)
def test_a_gpu_that_only_emulates_bf16_gets_fp16(monkeypatch, card, capability, dtype):
    """A T4 and a V100 got bf16, which is emulated there; is_bf16_supported() says yes on both."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *given, **named: True)
    asked = []
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: asked.append(str(device)) or capability)
    assert choose_dtype(Settings(), torch.device("cuda:1"), 10) == getattr(torch, dtype), card
    assert asked == ["cuda:1"]  # machines have several kinds
    assert choose_dtype(Settings(dtype="bfloat16"), torch.device("cuda:1"), 10) == torch.bfloat16  # as asked for
    monkeypatch.setattr(torch.version, "hip", "7.0")  # AMD counts otherwise
    assert choose_dtype(Settings(), torch.device("cuda"), 10) == torch.bfloat16


NO_MEMORY = [
    torch.OutOfMemoryError(),
    MemoryError(),
    OSError(12, "Cannot allocate memory"),
    RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 23.64 GiB of which…"),
    RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other"),
    RuntimeError("CUDA driver error: out of memory"),
    RuntimeError("Triton Error [CUDA]: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasLtMatmul( ltHandle, computeDesc"),
    RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    RuntimeError("cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate(handle)`"),
    RuntimeError("CUDA error: CUSPARSE_STATUS_INSUFFICIENT_RESOURCES when calling `cusparseSpMM`"),
    RuntimeError(
        'NVML_SUCCESS == r INTERNAL ASSERT FAILED at "../c10/cuda/CUDACachingAllocator.cpp":1154, please report a bug '
        "to PyTorch. "
    ),
    RuntimeError('NVML_SUCCESS == DriverAPI::get()->nvmlInit_v2_() INTERNAL ASSERT FAILED at "/pytorch/c10/cuda/CUDA"'),
    RuntimeError(
        "MPS backend out of memory (MPS allocated: 8.92 GB, other allocations: 10.42 MB, max allowed: 9.07 GB). Tried "
        "to allocate 563.62 MB on private pool. Use PYTORCH_MPS_HIGH_WATERMARK_RATIO=0.0 to disable upper limit"
    ),
    RuntimeError("Invalid buffer size: 24.00 GiB"),
    RuntimeError("Invalid buffer size: 512 MB"),
    RuntimeError("HIP out of memory. Tried to allocate 1.50 GiB."),
    RuntimeError("HIP error: hipErrorOutOfMemory"),
    RuntimeError("CUDA error: rocblas_status_memory_error when calling `rocblas_create_handle(handle)`"),
    RuntimeError("Native API failed. Native API returns: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)"),
    RuntimeError("NCCL error: unhandled cuda error\nLast error:\nCuda failure 2 'out of memory'"),
    RuntimeError(
        "ncclUnhandledCudaError: Call to CUDA function failed.\nLast error:\nFailed to CUDA calloc 6291456 bytes"
    ),
    RuntimeError(
        "ncclUnhandledCudaError: Call to CUDA function failed.\nLast error:\nFailed to CUDA host alloc 4096 bytes"
    ),
    RuntimeError("ncclSystemError\nLast error:\nCall to posix_memalign failed : Cannot allocate memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_INTERNAL_ERROR when calling `cublasCreate(handle)`"),
    RuntimeError("CUDA error: HIPBLAS_STATUS_NOT_INITIALIZED when calling `hipblasCreate(handle)`"),
    RuntimeError("cusolver error: CUSOLVER_STATUS_INTERNAL_ERROR, when calling `cusolverDnCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"),
    RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED"),
    RuntimeError("MIOpen: miopenStatusAllocFailed"),
    RuntimeError("Insufficient Memory (00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)"),
    RuntimeError("Failed to allocate private MTLBuffer for size 4294967296"),
    RuntimeError("Triton Error [HIP]:  Code: 2, Messsage: out of memory"),
    RuntimeError("cudaErrorMemoryAllocation: out of memory"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 68719476736 bytes."),  # Windows
    RuntimeError("unable to mmap 4096 bytes from file </torch_17>: Cannot allocate memory (12)"),
    RuntimeError("std::bad_alloc"),
    OSError("The paging file is too small for this operation to complete. (os error 1455)"),
    SafetensorError("Error while deserializing header: Cannot allocate memory (os error 12)"),
]
OTHERS = [
    UserError("There is not enough memory for an update of the sharded model."),  # has its sentence already
    ValueError("'The computer is out of memory' is no number"),  # quotes a user
    KeyError("out of memory"),
    OSError(28, "No space left on device"),
    RuntimeError("CUDA error: an illegal memory access was encountered"),
    RuntimeError("CUDA error: device-side assert triggered"),
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm( handle, opa, opb, m, n, k)`"),
    RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasSgemm( handle, opa, opb, m, n, k)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    RuntimeError("out of resource: shared memory, Required: 131072, Hardware limit: 101376. Reducing block sizes"),
    RuntimeError("CUDA error: too many resources requested for launch"),
    RuntimeError("NCCL error: unhandled system error, NCCL version 2.27"),
    RuntimeError("mat1 and mat2 shapes cannot be multiplied (4x8 and 16x8)"),
    RuntimeError("Invalid buffer size: expected 12 elements"),
    RuntimeError("Failed to initialize NVML: Driver/library version mismatch"),
    RuntimeError("view size is not compatible with input tensor's size and stride; the memory format differs"),
    SafetensorError("Error while deserializing header: header too large"),
]


def named(error: Exception) -> str:
    return f"{type(error).__name__} {str(error)[:50]}"


@pytest.mark.parametrize("error", NO_MEMORY, ids=named)
def test_memory_that_ran_out_has_many_names(error):
    """Texts of cuBLAS, cuDNN, NVML, Metal and others were bugs, or "cannot be read … download it again"."""
    assert is_out_of_memory(error)
    wrapped = RuntimeError("the worker failed")
    wrapped.__cause__ = error
    assert is_out_of_memory(wrapped)
    if isinstance(error, RuntimeError | MemoryError):  # what a forward pass raises

        def attempt(part, start):
            if len(part) > 2:
                raise error
            return part

        halved: list[int] = []
        assert run_with_oom_backoff(range(8), 8, attempt, halved.append)[1] == 2 and halved == [4, 2]
    try:
        raise error
    except Exception:
        assert log_unexpected("a test").startswith("Memory ran out")


@pytest.mark.parametrize("error", OTHERS, ids=named)
def test_other_errors_are_not_taken_for_memory(error):
    assert not is_out_of_memory(error)


def test_a_model_or_adapter_that_does_not_fit_is_not_called_damaged(tmp_path, monkeypatch):
    """Moving weights to a full GPU may raise any of these; it was "cannot be read … Save or download it again"."""
    full = RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
    folder = save_tiny(tmp_path / "model", seed=1)

    def fail(*given, **named):
        raise full

    with monkeypatch.context() as patched:
        patched.setattr(torch.nn.Module, "to", fail)
        with pytest.raises(UserError, match=r"needs .* GB, which cpu does not have free"):
            load_model(str(folder), Settings(device="cpu"))
    save_adapter(add_lora(tiny_model(1), 4, 8, 0.0, ("q_proj",), 0), tmp_path / "adapter", "card")
    monkeypatch.setattr("peft.PeftModelForCausalLM.load_adapter", fail)
    with pytest.raises(RuntimeError, match="CUBLAS"):  # the caller says what to do
        attach_adapter(tiny_model(1), tmp_path / "adapter", "base", Files(folder))


def test_a_driver_too_old_for_pytorch_is_said(tmp_path, monkeypatch):
    """A CUDA build with an older driver ran on the CPU without a word."""
    folder, said = save_tiny(tmp_path / "model", seed=1), []
    driver = tmp_path / "version"
    monkeypatch.setattr("lightreasoner.models.devices.NVIDIA_DRIVER", driver)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert unused_gpu() == ""  # no driver, no GPU
    for text in (
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  470.82.00  Thu Oct 14 10:24:40 UTC 2021",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  470.82.00  Release Build",
    ):
        driver.write_text(text)
        assert "the NVIDIA driver 470.82.00 is not usable for PyTorch's CUDA 13.0" in unused_gpu()
    load_model(str(folder), Settings(), said.append)
    assert "on cpu in float32; a GPU is here" in said[0]  # the status line of the page and of every command
    with pytest.raises(UserError, match=r"no CUDA GPU here; a GPU is here, but .*update the driver"):
        choose_device(Settings(device="cuda"))
    load_model(str(folder), Settings(device="cpu"), said.append)
    assert "GPU" not in said[-1]  # as asked for
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # hidden on purpose
    assert unused_gpu() == ""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(torch.version, "cuda", None)  # a PyTorch for CPUs, as chosen at its installation
    assert unused_gpu() == ""


GB = 10**9


class StubAllocator:
    """A GPU of `total` bytes under PyTorch's caching allocator: freed memory stays reserved until it is emptied."""

    def __init__(self, monkeypatch, total: int, *others: int):
        """others: the bytes of further GPUs, all of which are in `gpus`."""
        self.total, self.allocated, self.reserved = total, 0, 0
        if monkeypatch is None:
            return
        self.gpus = [self, *(StubAllocator(None, each) for each in others)]

        def of(device) -> StubAllocator:
            return self.gpus[device.index or 0 if device is not None else 0]

        for name, value in {
            "is_available": lambda: True,
            "is_initialized": lambda: True,
            "device_count": lambda: len(self.gpus),
            "current_device": lambda: 0,
            "get_device_capability": lambda device=None: (8, 9),
            "mem_get_info": lambda device=None: (of(device).total - of(device).reserved, of(device).total),
            "memory_reserved": lambda device=None: of(device).reserved,
            "memory_allocated": lambda device=None: of(device).allocated,
            "empty_cache": lambda: [gpu.empty_cache() for gpu in self.gpus],
        }.items():
            monkeypatch.setattr(torch.cuda, name, value)

    def empty_cache(self) -> None:
        self.reserved = self.allocated

    def allocate(self, size: int) -> None:
        if self.allocated + size > self.total:
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {size / GB:.2f} GB")
        self.allocated += size
        if self.allocated > self.reserved:
            self.reserved = self.allocated

    def free(self, size: int) -> None:
        self.allocated -= size


class StubModel:
    def __init__(self, size: int, gpu: StubAllocator):
        gpu.allocate(size)
        self.size, self.itself = size, self  # models contain reference cycles
        weakref.finalize(self, gpu.free, size)


@pytest.fixture
def stub_models(monkeypatch):
    """stub_models(parameters by name, *bytes of each GPU): (LoadedModels, the first allocator, the names loaded)."""

    def make(sizes: dict[str, int], *totals: int, device: str = "cuda"):
        gpu, loads = StubAllocator(monkeypatch, *totals), []

        def load(ref, settings, *rest):
            loads.append(str(ref))
            place = choose_device(settings)
            model = StubModel(2 * sizes[str(ref)], gpu.gpus[place.index or 0])
            return SimpleNamespace(model=model, fingerprint=str(ref), device=place)

        for name, value in {
            "find_files": lambda ref, *rest, **named: ref,
            "count_parameters": lambda files: sizes[str(files)],
            "fingerprint": str,
            "load_model": load,
            "tensor_bytes": lambda models: sum(model.size for model in models),
        }.items():
            monkeypatch.setattr(f"lightreasoner.models.cache.{name}", value)
        return LoadedModels(Settings(device=device)), gpu, loads

    return make


@pytest.mark.parametrize("total", [24, 32, 80])
def test_four_traces_load_each_model_once(stub_models, total):
    """On 24 GB the second trace of a 7B pair was refused, and on 32 GB both models were read for every trace."""
    models, gpu, loads = stub_models({"org/expert-7b": 7_615_616_512, "org/amateur": 494_032_768}, total * GB)
    for _ in range(4):
        pair = [models.get("org/expert-7b"), models.get("org/amateur")]
        gpu.allocate(1 * GB)  # caches and logits of the trace
        gpu.free(1 * GB)
        del pair
    assert loads == ["org/expert-7b", "org/amateur"]


def test_pairs_take_turns_on_one_gpu(stub_models):
    """What a dropped pair leaves in PyTorch's cache, or in reference cycles, is room for the next one."""
    models, gpu, loads = stub_models({"org/a": 7 * GB, "org/b": 7 * GB, "org/small": GB // 2}, 24 * GB)
    gc.collect()
    gc.disable()
    try:
        for name in ("org/a", "org/b", "org/a"):
            models.get(name), models.get("org/small")
    finally:
        gc.enable()
    assert loads == ["org/a", "org/small", "org/b", "org/a"]
    assert gpu.reserved <= 16 * GB


def test_a_dropped_model_that_is_still_used_is_not_counted_as_free(stub_models):
    models, gpu, _ = stub_models({"org/a": 7 * GB, "org/b": 7 * GB}, 24 * GB)
    held = models.get("org/a")
    with pytest.raises((UserError, torch.OutOfMemoryError)):
        models.get("org/b")
    assert gpu.allocated == held.model.size == 14 * GB


SIZES = {"org/expert": 14 * GB, "org/amateur": 7 * GB, "org/small": GB // 2}


@pytest.mark.parametrize(
    ("device", "totals", "amateur", "places"),
    [
        ("cuda", (40, 40), "org/small", ["cuda", "cuda"]),
        ("cuda", (40, 40), "org/amateur", ["cuda", "cuda:1"]),  # 28 GB leave 6 of 34
        ("cuda", (80, 80), "org/amateur", ["cuda", "cuda"]),
        ("cuda", (24, 40), "org/amateur", ["cuda:1", "cuda"]),  # the expert has no room on the first one
        ("cuda", (40, 8, 24), "org/amateur", ["cuda", "cuda:2"]),
        ("cuda:1,cuda:0", (40, 40), "org/amateur", ["cuda:1", "cuda:0"]),  # a job that was given the second one
        ("cuda:1,cuda:0", (40, 80), "org/amateur", ["cuda:1", "cuda:1"]),
    ],
)
def test_an_amateur_without_room_goes_to_another_gpu(stub_models, device, totals, amateur, places):
    """Both models of a pair lay on one GPU, however small it was; the second trace must find both where they are."""
    models, _, loads = stub_models(SIZES, *(total * GB for total in totals), device=device)
    for _ in range(2):
        expert = models.get("org/expert")
        pair = [expert, models.get(amateur, beside=[expert])]
        assert [str(loaded.device) for loaded in pair] == places
    assert loads == ["org/expert", amateur]


@pytest.mark.parametrize("device", ["cuda:0", "cuda:1"])
def test_a_gpu_that_is_named_is_the_only_one(stub_models, device):
    models, _, _ = stub_models(SIZES, 40 * GB, 40 * GB, device=device)
    expert = models.get("org/expert")
    with pytest.raises((UserError, torch.OutOfMemoryError)):
        models.get("org/amateur", beside=[expert])


def test_gpus_are_those_that_torch_shows(stub_models):
    """CUDA_VISIBLE_DEVICES leaves torch some; no other source is asked for their number."""
    stub_models(SIZES, 40 * GB, 40 * GB, 40 * GB)
    assert list(map(str, further_devices(Settings()))) == ["cuda:1", "cuda:2"]
    assert list(map(str, further_devices(Settings(device="cuda:2, cuda:0")))) == ["cuda:0"]
    assert further_devices(Settings(device="cuda:1")) == further_devices(Settings(device="cpu")) == []
    assert str(choose_device(Settings(device="cuda:2,cuda:0"))) == "cuda:2"
    for wrong, says in (("cuda:0,cuda:3", "there are 3"), ("cuda:0,cpu", "not all GPUs"), ("cuda:0,", "unknown")):
        with pytest.raises(UserError, match=says):
            choose_device(Settings(device=wrong))
    stub_models(SIZES, 40 * GB)
    assert further_devices(Settings()) == []


def test_a_batch_fits_on_every_gpu_of_a_pair(monkeypatch):
    """The rows were planned as if both caches lay on the expert's GPU."""
    free = {"cuda:0": 80 * GB, "cuda:1": 1 * GB}
    monkeypatch.setattr(batch_size, "free_bytes", lambda device: free[str(device)])
    monkeypatch.setattr(batch_size, "cache_bytes", lambda loaded: 10_000)
    head = SimpleNamespace(get_output_embeddings=lambda: SimpleNamespace(weight=torch.empty(1000, 1, device="meta")))
    expert, amateur = (SimpleNamespace(device=torch.device("cuda", n), model=head) for n in (0, 1))
    assert batch_size.fitting_rows([expert, amateur], 1000, 16) == 32  # 48 rows of 10 MB and their logits
    free["cuda:1"], free["cuda:0"] = 80 * GB, 1 * GB
    assert batch_size.fitting_rows([expert, amateur], 1000, 16) == 32
    free["cuda:0"] = 80 * GB
    assert batch_size.fitting_rows([expert, amateur], 1000, 16) == 1024


def test_what_pytorch_keeps_unused_is_free(monkeypatch):
    gpu = StubAllocator(monkeypatch, 24 * GB)
    gpu.allocate(16 * GB)
    gpu.free(10 * GB)
    assert torch.cuda.mem_get_info()[0] == 8 * GB
    assert free_bytes(torch.device("cuda")) == 18 * GB
