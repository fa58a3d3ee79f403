"""python -m lightreasoner VERB"""

from lightreasoner.cli.main import main

raise SystemExit(main())
