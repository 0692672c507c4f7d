"""npm's `@fantaptik/react-auth` 0.1.1 and `@fantaptik/socket` 0.1.0, unmodified, against a running service.

The application is put together as the packages' tutorial does: its login form asks to resume whenever nobody is logged
in, so after each logout too. A session that were still good then would log the tab in again.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conformance.running import Running, fresh
from tests.npm.browser import Browser, Tab, Told
from tests.npm.conftest import Opening, serving

PASSWORD = "correct horse battery"
REFUSED = {"success": False, "session": "", "user": {}}
SESSION_END = {"type": "fantaptik/react-auth/close"}
IN_ALL_MODES = pytest.mark.parametrize("enveloper", ["enveloped", "elevated", "bare"])


def registered(service: Running) -> tuple[str, int]:
    name = fresh("person")
    answer = service.ask("POST", "/api/register", {"username": name, "nickname": name, "password": PASSWORD})
    assert answer.status_code == 201, answer.text
    return name, answer.json()["id"]


def nobody(browser: Browser) -> Tab:
    """A tab in which nobody is logged in, and the form waits."""
    tab = browser.open()
    assert tab.posted("resume")["answer"] == REFUSED
    tab.next("state", lambda state: state["resuming"] is False)
    return tab


def somebody(tab: Tab) -> Told:
    """Waits until somebody is logged in, and the socket's session confirmed."""
    state = tab.next("state", lambda state: state["session"] != "")
    assert tab.asked("socket/resume") == {"success": True}
    return state


def logged_in(browser: Browser, name: str) -> tuple[Tab, Told]:
    tab = nobody(browser)
    tab.log_in(name, PASSWORD)
    return tab, somebody(tab)


def resumed(browser: Browser, state: Told) -> Tab:
    """A tab that finds by its cookie who is logged in."""
    tab = browser.open()
    assert tab.posted("resume")["answer"] == {"success": True, "session": state["session"], "user": state["user"]}
    assert somebody(tab)["session"] == state["session"]
    return tab


def leaves(tab: Tab, *, rejected: bool = False) -> None:
    """Waits until nobody is logged in any more, to stay so: the form's resume is refused, the socket is stopped."""
    state = tab.next("state", lambda state: state["session"] == "")
    assert (state["user"], state["rejected"]) == (None, rejected)
    posted = tab.posted("resume")
    assert (posted["status"], posted["answer"]) == (200, REFUSED)
    assert tab.next("state", lambda state: not state["resuming"])["session"] == ""
    # Closed as it asked for, with no code of its own; a connection that is merely lost has 1006, and is tried again.
    tab.next("closed", lambda closed: closed["code"] in {1000, 1005})


def is_live(service: Running, session: str) -> bool:
    status = service.ask("GET", "/api/session", token=session).status_code
    assert status in {200, 401}
    return status == 200


@IN_ALL_MODES
def test_login(service: Running, opened: Opening, enveloper: str) -> None:
    name, number = registered(service)
    tab = nobody(opened(service, enveloper))
    tab.log_in(name, PASSWORD)
    posted = tab.posted("authenticate")
    state = somebody(tab)
    assert posted["status"] == 200
    assert posted["answer"] == {"success": True, "session": state["session"], "user": state["user"]}
    assert state["user"]["id"] == number
    assert state["user"]["username"] == state["username"] == name
    # The account API knows the session by the same token.
    mine = service.ask("GET", "/api/session", token=state["session"])
    assert mine.json()["user"]["id"] == number


@IN_ALL_MODES
def test_resume(service: Running, opened: Opening, enveloper: str) -> None:
    name, _ = registered(service)
    browser = opened(service, enveloper)
    tab, state = logged_in(browser, name)
    tab.close()
    resumed(browser, state)


def test_another_browser_resumes_nothing(service: Running, opened: Opening) -> None:
    name, _ = registered(service)
    logged_in(opened(service), name)
    nobody(opened(service))


def test_a_login_is_shared_with_the_other_tabs(service: Running, opened: Opening) -> None:
    # The packages do it themselves, by the storage that the tabs share: one session, one more socket.
    name, _ = registered(service)
    browser = opened(service)
    other = nobody(browser)
    _, state = logged_in(browser, name)
    assert somebody(other)["session"] == state["session"]
    assert other.count("posted") == 1


@IN_ALL_MODES
def test_logout_in_one_of_two_tabs(service: Running, opened: Opening, enveloper: str) -> None:
    name, _ = registered(service)
    browser = opened(service, enveloper)
    first, state = logged_in(browser, name)
    second = resumed(browser, state)
    first.log_out()
    assert first.asked("close") == {"success": True}
    assert second.next("notified")["data"] == SESSION_END
    leaves(first)
    leaves(second)
    assert first.count("notified") == 0
    assert not is_live(service, state["session"])


def test_logout_and_login_again(service: Running, opened: Opening) -> None:
    name, _ = registered(service)
    tab, state = logged_in(opened(service), name)
    tab.log_out()
    leaves(tab)
    tab.log_in(name, PASSWORD)
    assert somebody(tab)["session"] != state["session"]


def test_a_logout_ends_nobody_elses_session(service: Running, opened: Opening) -> None:
    name, _ = registered(service)
    here, state = logged_in(opened(service), name)
    there, other = logged_in(opened(service), name)
    assert state["session"] != other["session"]
    here.log_out()
    leaves(here)
    # Another session of the same account: its socket still answers, and by its own logout it hears of no other end.
    there.log_out()
    assert there.asked("close") == {"success": True}
    leaves(there)
    assert there.count("notified") == 0


def test_a_session_that_began_at_auth_server(service: Running, opened: Opening) -> None:
    # One cookie for both doors. A guest's is nobody's session here, a user's is resumed.
    name, number = registered(service)
    browser = opened(service)
    elsewhere = nobody(browser)
    guest = elsewhere.post("/api/authenticate")["answer"]["at"]
    nobody(browser)
    session = elsewhere.post("/api/login", guest, email=name, password=PASSWORD)["answer"]["at"]
    tab = browser.open()
    assert tab.posted("resume")["answer"]["success"] is True
    state = somebody(tab)
    assert (state["session"], state["user"]["id"]) == (session, number)
    tab.log_out()
    leaves(tab)
    assert not is_live(service, session)


def test_a_guest_of_auth_server_logs_in_here(service: Running, opened: Opening) -> None:
    name, _ = registered(service)
    browser = opened(service)
    tab = nobody(browser)
    tab.post("/api/authenticate")
    tab.log_in(name, PASSWORD)
    resumed(browser, somebody(tab))


def another_session(service: Running, name: str) -> str:
    answer = service.ask("POST", "/api/session", {"identifier": name, "password": PASSWORD})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["token"])


def an_admin(service: Running) -> str:
    name = fresh("warden")
    made = service.cli("users", "add", name, "--level", "admin", "--password-stdin", given=PASSWORD)
    assert made.returncode == 0, made.stderr
    return another_session(service, name)


def operate(service: Running, *arguments: str) -> None:
    done = service.cli(*arguments)
    assert done.returncode == 0, done.stderr


def password_change(service: Running, name: str, session: str) -> None:
    changes = {"old_password": PASSWORD, "new_password": f"{PASSWORD} staple"}
    answer = service.ask("PATCH", "/api/profile", changes, token=another_session(service, name))
    assert answer.status_code == 200


def logout_at_the_account_api(service: Running, name: str, session: str) -> None:
    assert service.ask("DELETE", "/api/session", token=session).status_code == 204


def one_of_my_sessions(service: Running, name: str, session: str) -> None:
    path = f"/api/sessions/{number_of(session)}"
    assert service.ask("DELETE", path, token=another_session(service, name)).status_code == 204


def all_my_other_sessions(service: Running, name: str, session: str) -> None:
    assert service.ask("DELETE", "/api/sessions", token=another_session(service, name)).status_code == 200


def revocation_by_an_admin(service: Running, name: str, session: str) -> None:
    path = f"/admin/api/sessions/{number_of(session)}"
    assert service.ask("DELETE", path, token=an_admin(service)).status_code == 204


def revocation_by_an_operator(service: Running, name: str, session: str) -> None:
    operate(service, "sessions", "revoke", number_of(session))


def deactivation(service: Running, name: str, session: str) -> None:
    operate(service, "users", "deactivate", name)


def number_of(session: str) -> str:
    return session.partition("|")[0]


ENDINGS = [
    password_change,
    logout_at_the_account_api,
    one_of_my_sessions,
    all_my_other_sessions,
    revocation_by_an_admin,
    revocation_by_an_operator,
    deactivation,
]


@pytest.mark.parametrize("end", ENDINGS)
def test_a_session_that_ends_elsewhere(
    service: Running, opened: Opening, end: Callable[[Running, str, str], None]
) -> None:
    name, _ = registered(service)
    browser = opened(service)
    first, state = logged_in(browser, name)
    second = resumed(browser, state)
    end(service, name, state["session"])
    for tab in first, second:
        assert tab.next("notified")["data"] == SESSION_END
        leaves(tab)
    assert not is_live(service, state["session"])


@IN_ALL_MODES
def test_a_refused_login(service: Running, opened: Opening, enveloper: str) -> None:
    name, _ = registered(service)
    tab = nobody(opened(service, enveloper))
    for username, password in [(name, "wrong horse battery"), (fresh("nobody"), PASSWORD), ("", ""), (name, "")]:
        tab.log_in(username, password)
        posted = tab.posted("authenticate")
        assert (posted["status"], posted["answer"], posted["retry_after"]) == (200, REFUSED, None)
    assert tab.count("connected") == 0
    tab.log_in(name, PASSWORD)
    somebody(tab)


def test_a_throttled_login(service: Running, opened: Opening) -> None:
    name, _ = registered(service)
    browser = opened(service)
    tab = nobody(browser)
    for _ in range(5):  # the default of throttle_account_failures
        tab.log_in(name, "wrong horse battery")
        assert tab.posted("authenticate")["retry_after"] is None
    tab.log_in(name, PASSWORD)
    posted = tab.posted("authenticate")
    assert (posted["status"], posted["answer"]) == (200, REFUSED)
    assert int(posted["retry_after"]) > 0
    assert tab.count("connected") == 0


# A service that comes back does so at the same addresses.


@pytest.fixture
def ports() -> tuple[int, int]:
    """Two free ports that no outgoing connection is given, so that nobody takes them while the service is away."""
    found: list[int] = []
    while len(found) < 2:
        port = random.randrange(20_000, 32_000)  # noqa: S311  # a port is no secret
        with socket.socket() as held:
            try:
                held.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found[0], found[1]


@IN_ALL_MODES
def test_a_restart_logs_nobody_out(tmp_path: Path, opened: Opening, enveloper: str, ports: tuple[int, int]) -> None:
    with serving(tmp_path, ports) as service:
        name, _ = registered(service)
        browser = opened(service, enveloper)
        first, state = logged_in(browser, name)
        second = resumed(browser, state)
    for tab in first, second:
        assert tab.next("closed")["code"] == 1001
    with serving(tmp_path, ports) as service:
        for tab in first, second:
            assert tab.asked("socket/resume") == {"success": True}
            assert tab.count("notified") == 0
        third = resumed(browser, state)
        first.log_out()
        for tab in first, second, third:
            leaves(tab)
        browser.close()


def test_a_session_that_ends_while_the_service_is_away(tmp_path: Path, opened: Opening, ports: tuple[int, int]) -> None:
    with serving(tmp_path, ports) as service:
        name, _ = registered(service)
        browser = opened(service)
        tab, state = logged_in(browser, name)
    assert tab.next("closed")["code"] == 1001
    operate(service, "sessions", "revoke", number_of(state["session"]))
    with serving(tmp_path, ports):
        assert tab.asked("socket/resume") == {"success": False}
        leaves(tab, rejected=True)
        browser.close()


def test_a_logout_while_the_service_is_away(tmp_path: Path, opened: Opening, ports: tuple[int, int]) -> None:
    # The packages keep the message, and send it right behind the one that resumes, without waiting for its answer.
    with serving(tmp_path, ports) as service:
        name, _ = registered(service)
        browser = opened(service)
        tab, state = logged_in(browser, name)
    assert tab.next("closed")["code"] == 1001
    tab.log_out()
    with serving(tmp_path, ports) as service:
        assert tab.asked("socket/resume") == {"success": True}
        assert tab.asked("close") == {"success": True}
        leaves(tab)
        assert not is_live(service, state["session"])
        browser.close()
