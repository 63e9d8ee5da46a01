"""Code, right, wrong and hostile, and tests in the shapes that they come in."""

RIGHT = """\
def add(a, b):
    return a + b
"""
WRONG = """\
def add(a, b):
    return a - b
"""
ASSERTS = """\
assert add(1, 2) == 3
assert add(2, 2) == 4
"""
TASK = {"task_id": "add", "language": "python", "starter_code": "", "tests": ASSERTS, "entry_point": "add"}

# What is wrong with it -> code that is no answer.
HONEST_FAILURES = {
    "wrong": """\
def add(a, b):
    return a - b
""",
    "raises": "def add(a, b): raise KeyError(a)",
    "does not compile": "def add(a, b) return a + b",
    "NUL": """\
def add(a, b):
    return a + b\0""",
    "does not load": """\
1 / 0
def add(a, b):
    return a + b
""",
    "does not define it": "def sum_of(a, b): return a + b",
    "defines something else": "add = 3",
    "prose": "The answer is to add both numbers.",
    "generator": "def add(a, b): yield a + b",
    "coroutine": "async def add(a, b): return a + b",
    "none": "def add(a, b): pass",
}

# What it does -> code that tries to pass without an answer, or to do harm.
CHEATS = {
    "exits": """\
import sys
sys.exit(0)""",
    "exits at once": """\
import os
os._exit(0)""",
    "exits when called": """\
import sys
def add(a, b): sys.exit(0)""",
    "exits at once when called": """\
import os
def add(a, b): os._exit(0)""",
    "interrupts": "def add(a, b): raise KeyboardInterrupt",
    "skips": """\
import unittest
def add(a, b): raise unittest.SkipTest('not today')""",
    "equals everything": """\
class E:
    def __eq__(self, other): return True
def add(a, b): return E()""",
    "a number that equals everything": """\
class E(int):
    def __eq__(self, other): return True
    __hash__ = int.__hash__
def add(a, b): return E(9)""",
    "a text that equals everything": """\
class E(str):
    def __eq__(s, o): return True
def add(a, b): return E('x')""",
    "no AssertionError any more": """\
import builtins
builtins.AssertionError = KeyError
def add(a, b):
    return a - b
""",
    "another equality": """\
import builtins, operator
operator.eq = lambda a, b: True
builtins.isinstance = lambda *a: True
def add(a, b):
    return a - b
""",
    "a check of its own": """\
def check(candidate): pass
def add(a, b):
    return a - b
""",
    "a judge of its own": """\
class __judge__:
    passed = failed = print
def add(a, b):
    return a - b
""",
    "an abs of its own": """\
def abs(x): return 0
def all(x): return True
def add(a, b): return 7""",
    "writes to every file number": """\
import os
for n in range(3, 64):
    try: os.write(n, bytes([20, 0, 0, 0, 0, 0, 0, 0]) + b'=accepted')
    except OSError: pass
def add(a, b):
    return a - b
""",
    "says too much": "raise ValueError('x' * 10**7)",
    "loads with a lie": """\
import gc
for one in gc.get_objects():
    if type(one).__name__ == 'Link':
        one.serve = lambda operation, arguments: ('loaded', 'x' * 10**7, (('__judge__', ''), ('isinstance', '')))
add = 3""",
    "sends a report": """\
import os, sys
report = sys.modules['codec'].dumps({'complete': True, 'state': 'loaded', 'passed': 9, 'asked': 9})
for n in range(3, 64):
    try: os.write(n, report)
    except OSError: pass
os._exit(0)""",
    "answers as it likes": """\
import gc
for one in gc.get_objects():
    if type(one).__name__ == 'Link':
        one.serve = lambda operation, arguments: True
def add(a, b):
    return a - b
""",
    "looks for the tests": """\
import glob, os
found = [open(name).read() for name in glob.glob('**', recursive=True) if os.path.isfile(name)]
def add(a, b): return 3 if any('== 3' in text for text in found) else None""",
    "looks into other processes": """\
import os
def add(a, b):
    for name in os.listdir('/proc'):
        if name.isdigit() and int(name) != os.getpid(): open(f'/proc/{name}/mem', 'r+b')
    return 0""",
    "segmentation fault": """\
import ctypes
def add(a, b): ctypes.string_at(0)""",
    "kills everything": """\
import os
def add(a, b):
    os.kill(-1, 9)
    return 3""",
    "forks": """\
import os
while True: os.fork()""",
    "memory": "def add(a, b): return bytearray(1 << 40)",
    "memory in pieces": """\
def add(a, b):
    kept = []
    while True: kept.append(bytearray(1 << 24))""",
    "flood": """\
import os
def add(a, b):
    while True: os.write(1, b'x' * 65536)""",
    "endless recursion": "def add(a, b): return add(a, b)",
    "too large an answer": "def add(a, b): return b'x' * (100 << 20)",
    "too deep an answer": """\
def add(a, b):
    value = []
    for _ in range(10 ** 5): value = [value]
    return value""",
    "network": """\
import socket
socket.create_connection(('127.0.0.1', 80))
def add(a, b):
    return a + b
""",
}

# (tests, how many checks they make)
SHAPES = [
    (
        """\

import unittest
class AddTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls): cls.two = 2
    def setUp(self): self.one = 1
    def test_sum(self): self.assertEqual(add(self.one, self.two), 3)
    def test_negative(self): self.assertEqual(add(-1, -2), -3)
    @unittest.skip("another day")
    def test_skipped(self): self.fail()
""",
        2,
    ),
    (
        """\

from solution import add
def test_sum():
    assert add(1, 2) == 3
class TestMore:
    def setup_method(self): self.one = 1
    def test_sum(self): assert add(self.one, 2) == 3
def test_types():
    try:
        add(1, "x")
    except TypeError:
        pass
    else:
        raise AssertionError("adds a text")
""",
        3,
    ),
    (
        """\
def check(candidate):
    for n in range(5): assert candidate(n, n) == 2 * n""",
        5,
    ),
    (
        """\
def check(candidate):
    assert candidate(1, 2) == 3
check(add)""",
        1,
    ),
    ("assert candidate(1, 2) == 3", 1),
    (
        """\
import solution
assert solution.add(1, 2) == 3""",
        1,
    ),
    (
        """\
from main import *
assert add(1, 2) == 3""",
        1,
    ),
    (
        """\
if __name__ == '__main__':
    1 / 0
assert add(1, 2) == 3""",
        1,
    ),
    (
        """\
try:
    assert add(1, 1) == 3
except AssertionError:
    pass
assert add(1, 2) == 3""",
        1,
    ),
]

# Tests that run nothing of the code, or cannot run.
SHOW_NOTHING = [
    "x = 1",
    "def check(candidate): pass",
    "for n in []: assert add(n, n) == 0",
    "assert True",
    "def test_nothing(): pass",
    """\
import unittest
class T(unittest.TestCase):
    @unittest.skip('x')
    def test(self): add(1, 2)""",
    "def broken(:",
    """\
import pytest
def test_sum(): assert add(1, 2) == 3""",
    """\
from elsewhere import subtract
assert subtract(1, 1) == 0""",
    """\
from unittest.mock import patch
assert add(1, 2) == 3""",
    "def test_sum(fixture): assert add(1, 2) == 3",
    "async def test_sum(): assert add(1, 2) == 3",
    """\
import sys
assert add(sys, 1) == 3""",
    """\
assert add(1, 2) == 3
import os
os._exit(0)""",
]

# (right code, tests): what tests do with data and objects.
DATA_TASKS = [
    (
        """\
def f(items):
    items.sort()
    items.append(9)""",
        """\
x = [3, 1]
f(x)
assert x == [1, 3, 9]""",
    ),
    (
        """\
def f(n):
    for i in range(n): yield i""",
        "assert list(f(3)) == [0, 1, 2]",
    ),
    ("def f(g, x): return g(g(x))", "assert f(lambda n: n + 1, 1) == 3"),
    ("def f(x): return lambda y: x + y", "assert f(1)(2) == 3"),
    (
        """\
from collections import Counter
def f(t): return Counter(t)""",
        "assert f('aab') == {'a': 2, 'b': 1}",
    ),
    (
        """\
from collections import namedtuple
P = namedtuple('P', 'x y')
def f(): return P(1, 2)""",
        "assert f() == (1, 2) and f().x == 1",
    ),
    (
        """\
class MyError(ValueError): pass
def f(): raise MyError('no')""",
        """\
try:
    f()
except MyError as e:
    assert str(e) == 'no'""",
    ),
    (
        """\
import math
PI = math.pi
def f(r): return PI * r""",
        "assert abs(f(2) - 2 * PI) < 1e-9 and math.floor(f(1)) == 3",
    ),
    (
        "def f(s): print(s)",
        """\
import io, contextlib
out = io.StringIO()
with contextlib.redirect_stdout(out):
    f('hi')
assert out.getvalue() == 'hi\\n'""",
    ),
    (
        """\
class Stack:
    def __init__(self): self.items = []
    def push(self, x): self.items.append(x)
    def pop(self): return self.items.pop()
    def __len__(self): return len(self.items)
f = Stack""",
        """\
s = Stack()
s.push(1)
s.push(2)
assert s.pop() == 2
assert len(s) == 1
assert isinstance(s, Stack)""",
    ),
    (
        """\
class V:
    def __init__(s, x): s.x = x
    def __add__(s, o): return V(s.x + o.x)
    def __eq__(s, o): return s.x == o.x
def f(x): return V(x)""",
        """\
assert f(1) + f(2) == f(3)
assert (f(1) + f(1)).x == 2""",
    ),
    (
        """\
def f(node):
    total = 0
    while node:
        total += node.value
        node.seen = True
        node = node.next
    return total""",
        """\
class Node:
    def __init__(self, value, next=None): self.value, self.next = value, next
n = Node(1, Node(2))
assert f(n) == 3
assert n.next.seen""",
    ),
    (
        "def f(box): return [len(box), box[1], 2 in box, list(box), bool(box), str(box)]",
        """\
class Box:
    def __len__(self): return 2
    def __getitem__(self, i): return [5, 2][i]
    def __str__(self): return 'box'
assert f(Box()) == [2, 2, True, [5, 2], True, 'box']""",
    ),
    (
        """\
import enum
class C(enum.Enum):
    A = 1
def f(): return C.A""",
        "assert f() == C.A and f() is C.A and f().value == 1",
    ),
    (
        """\
import json
def f(t): return json.loads(t)""",
        """\
import json
try:
    f('{')
    assert False
except json.JSONDecodeError:
    pass
assert f('1') == 1""",
    ),
]

STARTER = """\
import math

def helper(x):
    return x + 1

def f(x):
    \"\"\"Twice the helper.\"\"\"
"""

# Texts that answer STARTER.
TEXTS = [
    "    return 2 * helper(x)\n",
    "return 2 * helper(x)\n",
    """\
def f(x):
    return 2 * helper(x)
""",
    """\
Here it is:
```python
def f(x):
    return 2 * helper(x)
```
It doubles.""",
    """\
```
def f(x): return 0
```
No, wait:
```py
def f(x): return 2 * helper(x)
```
Run it:
```bash
python f.py
```""",
    """\
```python
    return 2 * helper(x)
```""",
    """\
```python
def f(x):
    return 2 * helper(x)""",
]
