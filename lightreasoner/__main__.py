"""python -m lightreasoner VERB"""

from lightreasoner.cli import main

raise SystemExit(main())
