"""Names that nobody may register, since they would speak for the service (RFC 2142, and our own)."""

from typing import Final

__all__ = ["RESERVED_NAMES"]

RESERVED_NAMES: Final = (
    "abuse", "account", "accounts", "admin", "administrator", "anonymous", "api", "auth", "daemon", "everyone",
    "gatebook", "guest", "help", "hostmaster", "info", "login", "logout", "mailer-daemon", "me", "moderator", "nobody",
    "noreply", "no-reply", "null", "official", "operator", "owner", "postmaster", "register", "root", "security",
    "service", "staff", "superuser", "support", "sysadmin", "sysop", "system", "undefined", "user", "users",
    "webmaster", "you",
)  # fmt: skip
