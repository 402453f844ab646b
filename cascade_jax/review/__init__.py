"""A page in the browser, served on this machine alone, on which a reader corrects outlines and measures again."""
