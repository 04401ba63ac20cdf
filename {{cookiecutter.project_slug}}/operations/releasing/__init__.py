"""`operations release|history|rollback|promote`: what an environment scores with, and how that changes.

The release is one SSM parameter (functions.release). Each command looks first, then writes that parameter once; the
parameters components/*/artifact, which people read, follow it.
"""

from operations.releasing.history import show
from operations.releasing.models import release
from operations.releasing.promotion import promote
from operations.releasing.rollbacks import rollback

__all__ = ["promote", "release", "rollback", "show"]
