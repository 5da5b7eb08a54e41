"""What could be a library of its own: time, atomic files, process groups. It must not know what an endpoint is."""
