"""Who may do what: sign-in, cookies, permissions, the middleware in front of every request."""
