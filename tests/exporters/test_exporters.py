import exporters


def test_the_public_names_are_there():
    """Every name that the package exports exists, and each comes once."""
    assert len(set(exporters.__all__)) == len(exporters.__all__)
    assert all(hasattr(exporters, name) for name in exporters.__all__)
