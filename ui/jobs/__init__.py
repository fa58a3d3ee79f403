"""The Jobs tab and the header."""
