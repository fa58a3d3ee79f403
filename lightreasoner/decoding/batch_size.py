"""How many sequences are decoded side by side, and how many steps are scored together: as memory allows."""

from collections.abc import Iterable

from lightreasoner.decoding.kv_cache import cache_bytes
from lightreasoner.models.devices import free_bytes
from lightreasoner.models.loading import LoadedModel

#: The most rows. On a CPU more rows are hardly faster, because arithmetic is the bottleneck; and a batch, which is lost
#: when the process is killed, should take seconds rather than minutes.
LARGEST = {"cuda": 1024, "mps": 256}
CHUNK_LOGITS = 4_096  # rows and steps of a chunk together; as many as the largest batch of a CPU has in 16 steps
#: On a CPU: the most rows, and the parameters times rows from which on more rows gain nothing (the log, 2026-11-27).
CPU_LARGEST, CPU_PARAMETER_ROWS = 256, 6_500_000_000


def chunk_steps(rows: int, steps: int) -> int:
    """How many of `steps` steps are scored together for so many rows: fewer where rows alone make a large chunk."""
    return max(1, min(steps, CHUNK_LOGITS // rows))


def chunk_bytes(models: Iterable[LoadedModel], rows: int, steps: int) -> int:
    """Bytes of a chunk's float32 logits: as computed, concatenated, and restricted to the shared vocabulary."""
    vocabulary = sum(loaded.model.get_output_embeddings().weight.shape[0] for loaded in models)
    return 3 * rows * chunk_steps(rows, steps) * vocabulary * 4


def fitting_rows(models: Iterable[LoadedModel], tokens: int, steps: int) -> int:
    """The batch size for rows of `tokens` tokens, prompt and response, of which `steps` steps are scored together.

    models: the expert first, on whose device all are scored. A power of two that fits into half of the memory that is
    free now, on every device, and is not beyond the fastest size.
    """
    models = list({id(loaded): loaded for loaded in models}.values())
    device = models[0].device
    rooms = {place: free_bytes(place) // 2 for place in dict.fromkeys(loaded.device for loaded in models)}

    def fit(rows: int) -> bool:
        for place, room in rooms.items():
            here = [loaded for loaded in models if loaded.device == place]
            logits = chunk_bytes(models if place == device else here, rows, steps)
            if rows * tokens * sum(map(cache_bytes, here)) + logits > room:
                return False
        return True

    rows = LARGEST.get(device.type, CPU_LARGEST)
    if device.type == "cpu":
        parameters = sum(loaded.parameters for loaded in models)
        rows = min(CPU_LARGEST, max(16, CPU_PARAMETER_ROWS // max(parameters, 1)))
    rows = 1 << (rows.bit_length() - 1)
    while rows > 1 and not fit(rows):
        rows //= 2
    return rows
