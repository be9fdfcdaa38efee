"""What share of the predicted gaze falls in each area of a picture, over time.

Importing this package is cheap: each name is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from avsal.names import names_from

if TYPE_CHECKING:
    from avsal.areas.areas import Area as Area
    from avsal.areas.areas import box as box
    from avsal.areas.series import AreaShare as AreaShare
    from avsal.areas.series import shares as shares

__getattr__ = names_from(__name__, {"areas": "Area box", "series": "AreaShare shares"})
