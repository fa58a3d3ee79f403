"""The functions that the page's scripts call on the server, outside the queue."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import signature

from lightreasoner.errors import UserError, broke


def answering(function: Callable[..., dict]) -> Callable[[object], dict]:
    """Gradio hands over one value, a list for several; an exception would reach the page as a bare 500."""
    wanted = len(signature(function).parameters)

    @wraps(function, assigned=("__module__", "__name__", "__qualname__", "__doc__"))
    def answer(arguments: object) -> dict:
        try:
            if not isinstance(arguments, list) or len(arguments) != wanted:
                raise UserError(f"{function.__name__} takes {wanted} arguments in a list.")
            return function(*arguments)
        except UserError as error:
            return {"error": str(error)}
        except Exception:
            return {"error": broke(f"call {function.__name__}")}

    del answer.__wrapped__  # or Gradio would hand over as many values as `function` takes
    return answer
