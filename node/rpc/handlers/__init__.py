"""One coroutine for each route: read what was asked, call the node, render."""
