"""Calling services by name: pools of workers, proxies, and the rules of who is asked."""
