"""How machines know each other: join codes, fingerprints, keys, pinned contexts, signatures, and enrolment's messages.

Without I/O except the reading of key files. A board's own keys are kept by the broker's ``access.authority``. What
makes keys and signatures is imported from its module (``keys``, ``signing``): the library behind it loads slowly.
"""

from callboard_core.trust.certificates import certificates_in, fingerprint, fingerprint_of_pem, is_in_bundle
from callboard_core.trust.contexts import pinned_context, unverified_context
from callboard_core.trust.joincode import JoinCode

__all__ = [
    "JoinCode",
    "certificates_in",
    "fingerprint",
    "fingerprint_of_pem",
    "is_in_bundle",
    "pinned_context",
    "unverified_context",
]
