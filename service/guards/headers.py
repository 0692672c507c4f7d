"""Headers that every answer has which has a body, whoever makes it: nothing of ours is a page, or is kept by a cache.

ASVS 5.0: 3.4.3 and 3.4.6 (no page, and none that shows it inside), 3.4.4 (no sniffing), 3.4.5 (no address told to
others), 3.5.8 (what a cookie gets is loaded into nobody else's page, a neighbour's on the same site neither), 14.3.2.
"""

from __future__ import annotations

from typing import Final

NO_PAGE: Final = (
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "default-src 'none'; base-uri 'none'; frame-ancestors 'none'"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
)
NOT_KEPT: Final = (("Cache-Control", "no-store"), *NO_PAGE)
NOT_KEPT_ON_THE_WIRE: Final = [(name.lower().encode(), value.encode()) for name, value in NOT_KEPT]
