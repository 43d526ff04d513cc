"""Who may do what: users, passwords, and the decisions about them. No sockets, no event loop."""
