"""Pure functions from snapshots to rows, markup and chart specifications. No Streamlit, no I/O."""
