"""Settings: where a value comes from, what is refused with which sentence, and that the page about them is true."""

import base64
import json
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import fields
from rich.console import Console

from service.address import Address, parse_address
from service.credentials.reserved_names import RESERVED_NAMES
from service.settings import Settings, flag_of, meta_of, reference, variable_of
from service.settings_sources import SettingsError, read_settings

ROOT = Path(__file__).parent.parent
KEY = base64.b64encode(bytes(range(32))).decode()

NUMBERS = [field.name for field in fields(Settings) if meta_of(field).ge is not None]


def read(
    *, flags: dict[str, object] | None = None, environ: dict[str, str] | None = None, file: Path | None = None
) -> Settings:
    return read_settings(flags, environ or {}, file)


def refusal(**sources: Any) -> str:
    with pytest.raises(SettingsError) as refused:
        read(**sources)
    sentence = str(refused.value)
    assert re.fullmatch(r"[^\x00-\x1f\x7f-\x9f]+\.", sentence)
    return sentence


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    return tmp_path / "gatebook.toml"


def test_the_defaults() -> None:
    settings = read()
    assert settings == Settings()
    assert settings.store == "sqlite:gatebook.db"
    assert [str(settings.http), str(settings.ws), str(settings.metrics)] == [
        "127.0.0.1:8000", "127.0.0.1:8001", "127.0.0.1:8002",
    ]  # fmt: skip
    assert (settings.session_lifetime, settings.session_idle_limit, settings.session_seen_interval) == (
        86_400,
        0,
        3_600,
    )
    assert (settings.argon2_memory_kib, settings.argon2_time, settings.argon2_parallelism) == (19_456, 2, 1)
    assert (settings.body_bytes, settings.message_bytes, settings.message_fragments) == (65_536, 65_536, 64)
    assert settings.reserved_names == RESERVED_NAMES
    assert settings.common_passwords_refused is True


@given(
    name=st.sampled_from(NUMBERS),
    given_by=st.sets(st.sampled_from(["flag", "variable", "file"])),
    data=st.data(),
)
def test_a_flag_wins_over_a_variable_over_the_file_over_the_default(
    tmp_path_factory: pytest.TempPathFactory, name: str, given_by: set[str], data: st.DataObject
) -> None:
    meta = next(meta_of(field) for field in fields(Settings) if field.name == name)
    assert meta.ge is not None
    assert meta.le is not None
    # Two settings are also held against each other; what is drawn keeps clear of that.
    least, most = int(meta.ge), int(meta.le)
    if name == "session_idle_limit":
        least = 3_601
    if name == "argon2_memory_kib":
        least = 8 * 64
    values = {source: data.draw(st.integers(least, most), source) for source in ("flag", "variable", "file")}
    file = tmp_path_factory.getbasetemp() / "settings.toml"
    file.write_text(f"{name} = {values['file']}\n" if "file" in given_by else "")
    settings = read(
        flags={name: values["flag"] if "flag" in given_by else None},
        environ={variable_of(name): str(values["variable"])} if "variable" in given_by else {},
        file=file,
    )
    winner = next((source for source in ("flag", "variable", "file") if source in given_by), None)
    assert getattr(settings, name) == (getattr(Settings(), name) if winner is None else values[winner])


def test_a_file_holds_every_type(toml: Path) -> None:
    toml.write_text(
        """
        store = "sqlite:/var/lib/gatebook/book.db"
        master_key_file = "/etc/gatebook.key"
        http = "[::1]:9000"
        metrics = "off"
        hashing_wait_seconds = 1
        common_passwords_refused = false
        reserved_names = ["boss"]
        log_format = "json"
        batch_size = 17
        """
    )
    settings = read(file=toml)
    assert settings.http == Address("::1", 9000)
    assert settings.metrics is None
    assert settings.master_key_file == Path("/etc/gatebook.key")
    assert settings.hashing_wait_seconds == 1.0
    assert (settings.common_passwords_refused, settings.reserved_names) == (False, ("boss",))
    assert (settings.log_format, settings.batch_size) == ("json", 17)


def test_variables_are_texts_of_every_type() -> None:
    settings = read(
        environ={
            "GATEBOOK_WS": "localhost:0",
            "GATEBOOK_METRICS": "off",
            "GATEBOOK_HASHING_WAIT_SECONDS": "0.5",
            "GATEBOOK_COMMON_PASSWORDS_REFUSED": "False",
            "GATEBOOK_RESERVED_NAMES": "boss, chief,,",
            "GATEBOOK_MASTER_KEY": KEY,
            "HOME": "/root",
            "gatebook_batch_size": "nobody reads this",
        }
    )
    assert (settings.ws, settings.metrics) == (Address("localhost", 0), None)
    assert (settings.hashing_wait_seconds, settings.common_passwords_refused) == (0.5, False)
    assert settings.reserved_names == ("boss", "chief")
    assert settings.master_key == KEY


def test_the_variable_names_the_file_unless_the_flag_does(toml: Path, tmp_path: Path) -> None:
    toml.write_text("batch_size = 17")
    other = tmp_path / "other.toml"
    other.write_text("batch_size = 18")
    assert read(environ={"GATEBOOK_CONFIG": str(toml)}).batch_size == 17
    assert read(environ={"GATEBOOK_CONFIG": str(toml)}, file=other).batch_size == 18


def test_this_process_and_no_flag_are_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEBOOK_BATCH_SIZE", "19")
    assert read_settings().batch_size == 19


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("BATCH_SIZE", "many", "must be a whole number from 1 to 10,000, not 'many'."),
        ("BATCH_SIZE", "0", "must be a whole number from 1 to 10,000, not 0."),
        ("BATCH_SIZE", "1.0", "must be a whole number from 1 to 10,000, not '1.0'."),
        ("BATCH_SIZE", " 1", "must be a whole number from 1 to 10,000, not ' 1'."),
        ("BATCH_SIZE", "", "must be a whole number from 1 to 10,000, not ''."),
        ("BATCH_SIZE", "\u0661", "must be a whole number from 1 to 10,000, not '\\u0661'."),
        ("BATCH_SIZE", "9" * 5_000, "must be a whole number from 1 to 10,000, not '99"),
        ("HASHING_WAIT_SECONDS", "nan", "must be a number of more than 0 and at most 60, not 'nan'."),
        ("HASHING_WAIT_SECONDS", "inf", "must be a number of more than 0 and at most 60, not 'inf'."),
        ("COMMON_PASSWORDS_REFUSED", "maybe", "must be true or false, not 'maybe'."),
        ("COMMON_PASSWORDS_REFUSED", "2", "must be true or false, not '2'."),
        ("DEVELOPMENT", "yes", "must be true or false, not 'yes'."),
        ("DEVELOPMENT", "", "must be true or false, not ''."),
        ("TRUSTED_ORIGINS", "*", "without the usual port, a path or a wildcard, not ['*']."),
        ("TRUSTED_ORIGINS", "https://a.example,https://a.example/", "must be a list of origins as browsers write them"),
        ("TRUSTED_ORIGINS", "https://*.a.example", "must be a list of origins as browsers write them"),
        ("TRUSTED_ORIGINS", "null", "must be a list of origins as browsers write them"),
        ("TRUSTED_ORIGINS", "https://a.example:443", "must be a list of origins as browsers write them"),
        ("LOG_LEVEL", "loud", "must be one of debug, info, warning, error, not 'loud'."),
        ("STORE", "", "must be a text that is not empty, not ''."),
        ("MASTER_KEY_FILE", "", "must be the path of a file, not ''."),
        ("HTTP", "8000", "with an IPv6 address in brackets and a port of at most 65,535, not '8000'."),
        ("HTTP", "off", "must be HOST:PORT, with an IPv6 address"),
        ("METRICS", "none", "a port of at most 65,535, or off, not 'none'."),
        ("STORE\nX", "1", "There is no setting 'GATEBOOK_STORE\\nX', found in the environment; did"),
    ],
)  # fmt: skip
def test_a_variable_that_is_refused(variable: str, value: str, sentence: str) -> None:
    found = refusal_or_question(environ={f"GATEBOOK_{variable}": value})
    assert sentence in found
    assert found.startswith((f"GATEBOOK_{variable} in the environment must be ", "There is no setting"))


def refusal_or_question(**sources: Any) -> str:
    with pytest.raises(SettingsError) as refused:
        read(**sources)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 300
    return str(refused.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('batch_size = "17"', "must be a whole number from 1 to 10,000, not '17'."),
        ("batch_size = 17.0", "must be a whole number from 1 to 10,000, not 17.0."),
        ("batch_size = true", "must be a whole number from 1 to 10,000, not True."),
        ("hashing_wait_seconds = nan", "must be a number of more than 0 and at most 60, not nan."),
        ("hashing_wait_seconds = inf", "must be a number of more than 0 and at most 60, not inf."),
        ("common_passwords_refused = 1", "must be true or false, not 1."),
        ('reserved_names = "boss"', "must be a list of names, not 'boss'."),
        ("reserved_names = [1]", "must be a list of names, not [1]."),
        ("trusted_origins = 'https://a.example'", "must be a list of origins, not 'https://a.example'."),
        ("trusted_origins = ['a.example']", "must be a list of origins as browsers write them"),
        ("trusted_proxies = '10.0.0.1'", "must be a list of networks, not '10.0.0.1'."),
        ("trusted_proxies = ['10.0.0.1/8']", "must be a list of addresses and networks such as 10.0.0.7"),
        ("trusted_proxies = ['0.0.0.0/0']", "and not everybody, not ['0.0.0.0/0']."),
        ("proxy_header = 'x-real-ip'", "must be one of x-forwarded-for, forwarded, not 'x-real-ip'."),
        ("development = 1", "must be true or false, not 1."),
        ("http = 8000", "must be HOST:PORT as text, not 8000."),
        ("store = 1", "must be a text that is not empty, not 1."),
        ("master_key_file = 1", "must be the path of a file, not 1."),
        ("token_lifetime = 301", "must be a whole number from 10 to 300, not 301."),
        ("token_issuer = ''", "must be a text of at most 255 characters, ASCII without spaces, not ''."),
        ("token_issuer = 'a b'", "must be a text of at most 255 characters, ASCII without spaces, not 'a b'."),
        ('token_audience = "a\\n"', "must be a text of at most 255 characters, ASCII without spaces, not 'a\\n'."),
        (f"token_audience = '{'a' * 256}'", "must be a text of at most 255 characters, ASCII without spaces, not "),
        ("[batch]\nsize = 1", "There is no setting 'batch', found in "),
        ("batchsize = 1", "; did you mean batch_size?"),
        ("GATEBOOK_STORE = 'x'", "There is no setting 'GATEBOOK_STORE'"),
        ("batch_size = ", "is not TOML: "),
        ("batch_size = 1\nbatch_size = 2", "is not TOML: "),
    ],
)
def test_a_file_that_is_refused(toml: Path, text: str, sentence: str) -> None:
    toml.write_text(text)
    found = refusal_or_question(file=toml)
    assert sentence in found
    assert str(toml) in found


def test_a_file_that_cannot_be_read(toml: Path, tmp_path: Path) -> None:
    assert refusal(file=toml) == f"The settings file {toml} cannot be read: No such file or directory."
    assert refusal(file=tmp_path) == f"The settings file {tmp_path} cannot be read: Is a directory."
    toml.write_bytes(b"\xff")
    assert refusal(file=toml) == f"The settings file {toml} cannot be read: it is not UTF-8."


def test_a_flag_that_is_refused() -> None:
    assert refusal(flags={"batch_size": "x"}) == (
        "--batch-size on the command line must be a whole number from 1 to 10,000, not 'x'."
    )
    assert refusal_or_question(flags={"batch_siz": 1}).endswith("did you mean --batch-size?")
    assert refusal(flags={"wholly_other": 1}).endswith("found in the command line; docs/settings.md lists them.")


@pytest.mark.parametrize(
    ("text", "truth"), [("true", True), ("TRUE", True), ("1", True), ("false", False), ("0", False)]
)
def test_yes_and_no_in_a_variable_or_a_flag(text: str, truth: bool) -> None:
    assert read(environ={"GATEBOOK_DEVELOPMENT": text}).development is truth
    assert read(flags={"common_passwords_refused": text}).common_passwords_refused is truth


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "[::1]", "localhost", "LOCALHOST"])
def test_in_development_this_machine_alone_is_listened_to(host: str) -> None:
    settings = read(environ={"GATEBOOK_DEVELOPMENT": "1", "GATEBOOK_HTTP": f"{host}:1", "GATEBOOK_WS": f"{host}:2"})
    assert settings.development
    assert settings.http.is_loopback
    # Nobody sends a cookie to the metrics.
    assert read(environ={"GATEBOOK_DEVELOPMENT": "1", "GATEBOOK_METRICS": "0.0.0.0:9"}).development


def test_origins_that_are_trusted(toml: Path) -> None:
    assert read().trusted_origins == ()
    origins = ("https://app.example.org", "http://localhost:3000", "capacitor://localhost")
    assert read(environ={"GATEBOOK_TRUSTED_ORIGINS": " , ".join(origins)}).trusted_origins == origins
    toml.write_text(f"trusted_origins = {json.dumps(origins)}")
    assert read(file=toml).trusted_origins == origins


def test_proxies_that_are_trusted() -> None:
    assert read().trusted_proxies == ()
    networks = ("10.0.0.7", "10.1.0.0/16", "2001:db8::/32")
    assert read(flags={"trusted_proxies": ",".join(networks)}).trusted_proxies == networks


@pytest.mark.parametrize("key", ["c2VjcmV0LXNlY3JldA==", "secret-secret", KEY + "\n", ""])
def test_a_bad_master_key_is_not_repeated(key: str, toml: Path) -> None:
    sentence = refusal(environ={"GATEBOOK_MASTER_KEY": key})
    assert sentence == "GATEBOOK_MASTER_KEY in the environment must be base64 of 32 bytes."
    toml.write_text(f"master_key = {json.dumps(key)}")
    assert refusal(file=toml) == f"master_key in {toml} must be base64 of 32 bytes."


def test_clients_that_may_introspect(toml: Path) -> None:
    assert read().introspection_clients == ()
    clients = (f"shop:{'0f' * 32}", f"mail.example.org:{'1e' * 32}")
    assert read(environ={"GATEBOOK_INTROSPECTION_CLIENTS": ", ".join(clients)}).introspection_clients == clients
    toml.write_text(f"introspection_clients = {json.dumps(clients)}")
    settings = read(file=toml)
    assert settings.introspection_clients == clients
    assert "introspection_clients='<hidden>'" in repr(settings)
    assert "0f0f" not in repr(settings)


@pytest.mark.parametrize(
    "given", [["shop:hunter2"], ["hunter2"], [f"shop:{'0F' * 32}"], [f"a b:{'0f' * 32}"], "hunter2", [2]]
)
def test_a_client_that_is_none_is_not_repeated(given: object, toml: Path) -> None:
    """Whoever takes the secret for its digest is not to read it in a log."""
    toml.write_text(f"introspection_clients = {json.dumps(given)}")
    said = refusal(file=toml)
    assert said.startswith(f"introspection_clients in {toml} must be a list of clients")
    assert "hunter2" not in said
    said = refusal(flags={"introspection_clients": "shop:hunter2"})
    assert "is a secret" in said
    assert "hunter2" not in said


def test_the_master_key_is_no_flag() -> None:
    sentence = refusal(flags={"master_key": KEY})
    assert "set GATEBOOK_MASTER_KEY" in sentence
    assert KEY not in sentence


def test_the_master_key_shows_nowhere() -> None:
    settings = read(environ={"GATEBOOK_MASTER_KEY": KEY})
    shown = StringIO()
    Console(file=shown, width=300).print(settings, [settings])
    assert KEY not in f"{settings} {settings!r} {shown.getvalue()}"
    assert "master_key='<hidden>'" in repr(settings)
    assert "master_key=None" in repr(read())
    assert "batch_size=256" in repr(settings)


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({"MASTER_KEY": KEY, "MASTER_KEY_FILE": "/k"}, "leave one of them out."),
        (
            {"DEVELOPMENT": "1", "HTTP": "0.0.0.0:8000"},
            "on this machine alone (127.0.0.1, [::1] or localhost), and http is",
        ),
        ({"DEVELOPMENT": "1", "HTTP": "[::]:8000"}, "and http is [::]:8000. Leave development out elsewhere."),
        ({"DEVELOPMENT": "true", "WS": "192.0.2.1:8001"}, "and ws is 192.0.2.1:8001. Leave development out elsewhere."),
        ({"DEVELOPMENT": "1", "WS": "localhost.example.org:8001"}, "and ws is localhost.example.org:8001."),
        ({"WS": "127.0.0.1:8000"}, "http and ws are both 127.0.0.1:8000; each listener needs a port of its own."),
        ({"SESSION_IDLE_LIMIT": "3600"}, "must be longer than session_seen_interval"),
        ({"ARGON2_PARALLELISM": "4", "ARGON2_MEMORY_KIB": "31"}, "at least eight times argon2_parallelism"),
    ],
)
def test_settings_that_do_not_go_together(environ: dict[str, str], sentence: str) -> None:
    found = refusal(environ={f"GATEBOOK_{name}": value for name, value in environ.items()})
    assert sentence in found
    assert KEY not in found


def test_several_listeners_may_let_the_system_choose() -> None:
    assert read(environ={"GATEBOOK_HTTP": "127.0.0.1:0", "GATEBOOK_WS": "127.0.0.1:0"}).ws.port == 0


@given(st.text() | st.from_regex(r"\[?[0-9a-z:.]*\]?:[0-9]{0,6}"))
def test_an_address_reads_as_it_is_written(text: str) -> None:
    try:
        address = parse_address(text)
    except ValueError as fault:
        assert not text or str(fault).startswith(("HOST:PORT", "[IPV6]:PORT"))  # noqa: PT017  # the sentence is the point
    else:
        assert 0 <= address.port <= 65_535
        assert parse_address(str(address)) == address


@pytest.mark.parametrize("text", ["127.0.0.1:8000", "localhost:0", "[::1]:65535", "[fe80::1]:1", "a.b-c.example:80"])
def test_addresses(text: str) -> None:
    assert str(parse_address(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":80",
        "host",
        "host:",
        "::1:80",
        "[::1]",
        "[::1]80",
        "[127.0.0.1]:80",
        "[x]:80",
        "a:65536",
        "a b:80",
        "-a:80",
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="PORT"):
        parse_address(text)


def test_every_setting_has_a_meaning_and_every_number_a_unit_and_a_range() -> None:
    for field in fields(Settings):
        meta = meta_of(field)
        assert meta.description, field.name
        assert meta.description.endswith("."), field.name
        if isinstance(field.default, int | float) and not isinstance(field.default, bool):
            assert (meta.extra or {}).get("unit"), field.name
            assert meta.le is not None, field.name


def test_the_page_about_the_settings_is_what_the_command_prints() -> None:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert page == reference(), "docs/settings.md is out of date: python -m service.settings > docs/settings.md"
    for name in Settings.__struct_fields__:
        assert f"| `{name}` | `{variable_of(name)}` |" in page
    assert flag_of("master_key") + "`" not in page
    printed = subprocess.run(
        [sys.executable, "-m", "service.settings"], cwd=ROOT, capture_output=True, check=True, timeout=60
    )
    assert printed.stdout.decode() == page
