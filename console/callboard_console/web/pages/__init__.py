"""One module per page, made of `st.` calls; what they show is decided in `views`."""
