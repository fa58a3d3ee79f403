"""The entry point of python -m lightreasoner."""

from lightreasoner.cli.main import main

raise SystemExit(main())
