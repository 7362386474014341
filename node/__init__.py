"""Every effect of SecureNet: sockets, files, clocks, processes; and the node made of them."""
