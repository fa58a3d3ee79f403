"""Access to a public server: sign-in, cookies, permissions, and the middleware in front of every request."""
