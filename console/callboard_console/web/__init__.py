"""The web console: a Streamlit application over one shared view of the board. Imports only core."""

from callboard_console.web.server import serve

__all__ = ["serve"]
