"""The calls of the page's scripts on the server, outside of the queue: errors as answers, and only changed parts."""

import json
import zlib
from collections.abc import Callable
from functools import wraps
from inspect import signature

from lightreasoner.errors import UserError, log_unexpected
from ui.access.actions import action_of


def answering(function: Callable[..., dict]) -> Callable[[object], dict]:
    """A call that takes the function's arguments as one list. Errors are returned as {"error": sentence}; Gradio would
    turn an exception into a bare 500."""
    parameters = signature(function).parameters.values()
    least = sum(parameter.default is parameter.empty for parameter in parameters)

    @wraps(function, assigned=("__module__", "__name__", "__qualname__", "__doc__"))
    def answer(arguments: object) -> dict:
        try:
            if not isinstance(arguments, list) or not least <= len(arguments) <= len(parameters):
                raise UserError(f"{function.__name__} takes {len(parameters)} arguments in a list.")
            return function(*arguments)
        except UserError as error:
            return {"error": str(error)}
        except Exception:
            return {"error": log_unexpected(f"call {function.__name__}")}

    del answer.__wrapped__  # or Gradio would hand over as many values as `function` takes
    return answer


def calls_of(actions: object) -> list[Callable[[object], dict]]:
    """The methods of an object's class that declare an action (ui/access/actions.py), as calls."""
    return [answering(getattr(actions, name)) for name, value in vars(type(actions)).items() if action_of(value)]


def fingerprint(value: object) -> str:
    """Eight hexadecimal digits that change when the value does (CRC-32 of its JSON; of its repr where it has none)."""
    return f"{zlib.crc32(json.dumps(value, default=repr).encode()):08x}"


def add_if_changed(answer: dict, name: str, value: object, seen: object, make: Callable = lambda value: value) -> None:
    """Put `value`, or what `make` makes of it, into the answer unless the page has it already.

    seen: what the page calls the "marks" of the previous answer, which hold the fingerprint of each part's value.
    """
    answer["marks"][name] = mark = fingerprint(value)
    if not isinstance(seen, dict) or seen.get(name) != mark:
        answer[name] = make(value)
