"""Makes faults in Python projects that have tests, and keeps those that the tests find.

`operators` says what can be changed in a text, `trial` runs a project's tests on a copy of it, `generate` chooses,
tries and appends. A kept fault is evidence of kind `mutation`: the faulty code, what the tests said, and the code as it
was.
"""
