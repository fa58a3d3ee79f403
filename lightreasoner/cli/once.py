"""The kind of option that takes one value where a user may well expect several: a second one is refused."""

import argparse


class Once(argparse.Action):
    """Stores the value of an option. Of two different values argparse would take the last one silently."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        before = getattr(namespace, self.dest, self.default)
        if before != self.default and before != values:
            raise argparse.ArgumentError(self, f"given twice, as {before} and as {values}; it takes one, so name one")
        setattr(namespace, self.dest, values)
