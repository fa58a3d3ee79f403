"""What ZeroGPU's package `spaces` does, as far as it matters: a decorated generator runs in a forked process, only what
pickle carries goes to and fro, and of an exception little more than its class comes back."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import sys

assert "torch" not in sys.modules, "spaces must be imported before torch"
_fork = multiprocessing.get_context("fork")


class Error(Exception):
    """As gradio.Error: the words are in `message`."""

    def __init__(self, message: str):
        super().__init__(message)
        self.message = message


def GPU(task=None, *, duration: int = 60):
    if task is None:
        return lambda task: GPU(task, duration=duration)

    def borrowed(*args):
        if os.path.exists(os.environ.get("FAKE_NO_QUOTA", "")):
            raise Error(
                'You have exceeded your GPU quota. <a style="color: red" href="https://huggingface.co">Log in</a>'
            )
        receiver, sender = _fork.Pipe(duplex=False)
        process = _fork.Process(target=_work, args=(task, pickle.dumps(args), sender), daemon=True)
        process.start()
        sender.close()
        try:
            while True:
                kind, value = pickle.loads(receiver.recv_bytes())
                if kind == "end":
                    return
                if kind == "error":
                    raise Error(value)
                yield value
        finally:
            process.join(30)

    return borrowed


def _work(task, args: bytes, sender) -> None:
    try:
        for value in task(*pickle.loads(args)):
            sender.send_bytes(pickle.dumps(("value", value)))
        sender.send_bytes(pickle.dumps(("end", None)))
    except Exception as error:
        sender.send_bytes(pickle.dumps(("error", type(error).__name__)))
