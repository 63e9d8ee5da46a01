"""A small project with tests, as its authors left it."""

from pathlib import Path

import pytest

SOURCE = '''\
"""What a basket costs."""

RATE = 19  # per cent


def total(prices, rate=RATE):
    """The sum, with tax."""
    net = 0
    for price in prices:
        if price < 0:
            raise ValueError(price)
        net += price
    return net * (100 + rate) // 100


def unused(a, b):
    return a - b
'''
TESTS = """\
import unittest

from shop.basket import total


class TotalTest(unittest.TestCase):
    def test_total(self):
        self.assertEqual(total([100, 100]), 238)

    def test_nothing_is_below_zero(self):
        with self.assertRaises(ValueError):
            total([-1])
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A package, and its tests."""
    for name, text in {"shop/__init__.py": "", "shop/basket.py": SOURCE, "tests/test_basket.py": TESTS}.items():
        place = tmp_path / "shop-project" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(text.encode())
    return tmp_path / "shop-project"
