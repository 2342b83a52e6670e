"""Online: HTTP, queue, engine, answer.  Imports no torch outside `server.engine.reference`."""
