"""What app.py imports sooner or later; see warm_app.py."""

import transformers  # noqa: F401

import ui.page  # noqa: F401
from lightreasoner.models import loading, pairs  # noqa: F401
