"""Parts that several tabs share: forms, cards, run lists, notices, downloads, publishing."""
