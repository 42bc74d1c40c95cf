"""The reading half: records to tables, figures and prose. Imports no torch and opens in a second."""

NOT_RUN, DAMAGED = "not run", "damaged"  # what stands in place of a result that is missing or cannot be read
