"""One papermill execution of a cell, and sweeps of many: what has to run, where, in what time, and how it ends."""
