"""One format a module; each has `render(report) -> str`."""
