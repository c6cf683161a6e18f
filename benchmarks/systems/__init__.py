"""One module a system; line_up.py names them. None is imported but in the system's own process."""
