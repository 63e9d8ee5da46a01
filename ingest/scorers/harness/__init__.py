"""What runs inside the sandbox when a task's tests are run: a judge, a candidate, and the wire between them.

The judge's process runs the tests and no byte of the candidate's; the candidate's process runs the candidate and sees
no test, only the arguments that it is called with. So there is nothing in the candidate's reach that decides.

These modules are started by path in an interpreter without the product, and import only one another and the standard
library.
"""
