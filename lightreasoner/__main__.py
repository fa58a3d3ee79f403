"""The entry point of python -m lightreasoner."""

try:
    from lightreasoner.cli.main import main

    raise SystemExit(main())
except KeyboardInterrupt:  # while it was being imported
    raise SystemExit(130) from None
