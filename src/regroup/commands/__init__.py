"""The subcommands of `regroup`, one module each."""
