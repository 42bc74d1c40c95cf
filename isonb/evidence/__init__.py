"""The reading half: records to tables, figures and prose. Imports no torch and opens in a second."""
