"""Jobs: long-running commands in processes of their own, which survive closed tabs and restarted servers."""
