from tests.measure.conftest import decoded, heard

__all__ = ["decoded", "heard"]  # fixtures here too
