"""The same-origin check, header by header."""

from __future__ import annotations

import pytest
from werkzeug.datastructures import Headers

from service.errors import CrossSite
from service.web.origins import Origins, is_origin

HOST = "auth.example.org"
HTTPS = f"https://{HOST}"
PARTNER = "https://partner.example.org"
TRUSTING = Origins((PARTNER, "capacitor://localhost"))


def passes(*headers: tuple[str, str], host: str = HOST, origins: Origins = TRUSTING) -> bool:
    try:
        origins.check(Headers([("Host", host), *headers]))
    except CrossSite:
        return False
    return True


def site(value: str) -> tuple[str, str]:
    return "Sec-Fetch-Site", value


def origin(value: str) -> tuple[str, str]:
    return "Origin", value


def test_what_is_no_browser_passes() -> None:
    assert passes()


@pytest.mark.parametrize("said", ["same-origin", "none"])
@pytest.mark.parametrize("from_", [None, HTTPS, "null", "https://evil.example", PARTNER])
def test_a_browser_that_says_same_origin_is_believed(said: str, from_: str | None) -> None:
    # Pages can set neither header; a page of ours with Referrer-Policy: no-referrer has the Origin null.
    assert passes(site(said), *([origin(from_)] if from_ else []))


@pytest.mark.parametrize("said", ["cross-site", "same-site"])
@pytest.mark.parametrize("from_", [None, HTTPS, "null", "https://evil.example", f"{PARTNER}.evil.example"])
def test_a_browser_that_says_another_site_is_believed(said: str, from_: str | None) -> None:
    assert not passes(site(said), *([origin(from_)] if from_ else []))


@pytest.mark.parametrize("said", ["", "Same-Origin", "SAME-ORIGIN", "none ", "same-origin, none", "banana", "\xff"])
@pytest.mark.parametrize("from_", [None, HTTPS, PARTNER])
def test_what_no_browser_says_of_the_site_is_refused(said: str, from_: str | None) -> None:
    assert not passes(site(said), *([origin(from_)] if from_ else []))


@pytest.mark.parametrize(
    ("from_", "host"),
    [
        (HTTPS, HOST),
        (f"http://{HOST}", HOST),
        (HTTPS, "Auth.Example.ORG"),
        (f"{HTTPS}:8443", f"{HOST}:8443"),
        ("http://127.0.0.1:8000", "127.0.0.1:8000"),
        ("http://localhost:8000", "localhost:8000"),
        ("http://[::1]:8000", "[::1]:8000"),
        ("http://[::1]", "[::1]"),
        ("http://xn--bcher-kva.example", "xn--bcher-kva.example"),
    ],
)
def test_an_older_browser_passes_from_our_own_host(from_: str, host: str) -> None:
    assert passes(origin(from_), host=host)


@pytest.mark.parametrize(
    "from_",
    [
        "",
        "null",
        "NULL",
        HOST,
        f"//{HOST}",
        f"{HTTPS}:8443",
        f"{HTTPS}:",
        f"{HTTPS}/",
        f"{HTTPS}/path",
        f"{HTTPS}?",
        f"{HTTPS}#",
        f"https://user@{HOST}",
        f"https://evil.example#{HOST}",
        f"https://evil.example\\{HOST}",
        f"https://{HOST}.evil.example",
        f"https://evil.{HOST}",
        f"{HTTPS} {HTTPS}",
        f"{HTTPS},{HTTPS}",
        f"{HTTPS}\t",
        f"file://{HOST}",
        f"chrome-extension://{HOST}",
        f"HTTPS://{HOST}",
        "https://AUTH.example.org",
        "https://auth.example.org.",
        "https://",
        "https://evil.example",
        "https://\xff",
    ],
)
def test_an_older_browser_is_refused_from_elsewhere(from_: str) -> None:
    assert not passes(origin(from_))


def test_a_host_that_is_missing_or_sent_twice_is_nobodys() -> None:
    for hosts in ([], [HOST, HOST], [HOST, "evil.example"], [""]):
        with pytest.raises(CrossSite):
            TRUSTING.check(Headers([*(("Host", host) for host in hosts), origin(HTTPS)]))


@pytest.mark.parametrize(
    "headers",
    [
        [site("same-origin"), site("same-origin")],
        [site("none"), site("cross-site")],
        [origin(HTTPS), origin(HTTPS)],
        [origin(PARTNER), origin(PARTNER)],
        [site("same-origin"), origin(HTTPS), origin(HTTPS)],
    ],
)
def test_what_is_sent_twice_is_refused(headers: list[tuple[str, str]]) -> None:
    assert not passes(*headers)


@pytest.mark.parametrize("said", [None, "same-site", "cross-site"])
def test_a_trusted_origin_passes(said: str | None) -> None:
    assert passes(origin(PARTNER), *([site(said)] if said else []))
    assert passes(origin("capacitor://localhost"), *([site(said)] if said else []))


@pytest.mark.parametrize(
    "from_", ["http://partner.example.org", f"{PARTNER}:8443", f"{PARTNER}:443", "https://x.partner.example.org"]
)
def test_trust_is_in_one_origin_exactly(from_: str) -> None:
    assert not passes(origin(from_))
    assert not passes(origin(from_), site("same-site"))


def test_by_default_nobody_else_is_trusted() -> None:
    assert not passes(origin(PARTNER), origins=Origins())
    assert passes(origin(HTTPS), origins=Origins())


@pytest.mark.parametrize(
    "text",
    ["https://a.example", "http://a.example:8080", "https://localhost", "http://[::1]:8000", "capacitor://localhost",
     "https://a.example:80", "http://a.example:443", "chrome-extension://abcdefghijklmnopabcdefghijklmnop"],
)  # fmt: skip
def test_origins_that_a_browser_writes(text: str) -> None:
    assert is_origin(text)


@pytest.mark.parametrize(
    "text",
    ["", "*", "null", "a.example", "https://", "https://*", "https://*.a.example", "https://a.example/",
     "https://a.example/path", "https://a.example?q", "https://a.example#f", "https://u:p@a.example", "https://A.example",
     "HTTPS://a.example", "https://a.example:443", "http://a.example:80", "https://a.example:0", "https://a.example:",
     "https://a.example:port", "https://a.example:123456", " https://a.example", "https://a.example\n",
     "https://büro.example", "https://a.example https://b.example"],
)  # fmt: skip
def test_what_no_browser_would_write_as_an_origin(text: str) -> None:
    assert not is_origin(text)
