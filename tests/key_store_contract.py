"""The promises of `events.keys.KeyStore`, as tests that every store runs: inherit, and say how to open one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from events.keys import KeyStore, ServiceKey
from tests.entries import START

Opening = Callable[[], KeyStore]


def service_key(name: str = "names", wrapped: bytes = b"first", days: int = 0) -> ServiceKey:
    return ServiceKey(name, START + timedelta(days=days, microseconds=1), wrapped)


class KeyStoreContract:
    """What every key store promises."""

    @pytest.fixture
    def opening(self) -> Opening:
        """Opens the key store that the test is about once more."""
        raise NotImplementedError

    @pytest.fixture
    def keys(self, opening: Opening) -> Iterator[KeyStore]:
        keys = opening()
        yield keys
        keys.close()

    @pytest.fixture
    def other(self, opening: Opening, keys: KeyStore) -> Iterator[KeyStore]:
        other = opening()
        yield other
        other.close()

    def test_a_new_store_holds_nothing(self, keys: KeyStore) -> None:
        assert keys.subject_keys([1, 2]) == {}
        assert keys.service_key("names") is None
        assert keys.service_keys() == []
        assert list(keys.all_subject_keys()) == []

    def test_a_subjects_key_is_there_for_everybody_at_once(self, keys: KeyStore, other: KeyStore) -> None:
        keys.put_subject_keys({1: b"one", 7: bytes(range(60))})
        assert other.subject_keys([7, 2, 1]) == {1: b"one", 7: bytes(range(60))}
        assert other.subject_keys([]) == {}
        assert dict(other.all_subject_keys()) == {1: b"one", 7: bytes(range(60))}

    def test_nothing_may_be_put(self, keys: KeyStore) -> None:
        keys.put_subject_keys({})
        assert list(keys.all_subject_keys()) == []

    def test_many_at_once(self, keys: KeyStore) -> None:
        wrapped = {subject: b"%d" % subject for subject in range(1, 1_202)}
        keys.put_subject_keys(wrapped)
        assert keys.subject_keys(range(2_000)) == wrapped

    def test_a_key_that_a_rolled_back_batch_left_behind_is_replaced(self, keys: KeyStore, other: KeyStore) -> None:
        keys.put_subject_keys({1: b"one", 2: b"two"})
        keys.put_subject_keys({2: b"another", 3: b"three"})
        assert other.subject_keys([1, 2, 3]) == {1: b"one", 2: b"another", 3: b"three"}

    def test_a_service_key_is_kept_as_it_was(self, keys: KeyStore, other: KeyStore) -> None:
        assert keys.put_service_key(service_key(), replacing=None)
        assert other.service_key("names") == service_key()
        assert other.service_key("throttles") is None

    def test_only_the_first_makes_a_service_key(self, keys: KeyStore, other: KeyStore) -> None:
        assert keys.put_service_key(service_key(wrapped=b"first"), replacing=None)
        assert not other.put_service_key(service_key(wrapped=b"second"), replacing=None)
        assert keys.service_key("names") == other.service_key("names") == service_key(wrapped=b"first")

    def test_only_the_first_replaces_a_service_key(self, keys: KeyStore, other: KeyStore) -> None:
        keys.put_service_key(service_key(), replacing=None)
        assert keys.put_service_key(service_key(wrapped=b"second", days=30), replacing=b"first")
        assert not other.put_service_key(service_key(wrapped=b"third", days=30), replacing=b"first")
        assert other.service_key("names") == service_key(wrapped=b"second", days=30)

    def test_what_is_not_there_is_not_replaced(self, keys: KeyStore) -> None:
        assert not keys.put_service_key(service_key(), replacing=b"first")
        assert keys.service_key("names") is None

    def test_a_service_key_is_replaced_for_its_purpose_alone(self, keys: KeyStore) -> None:
        keys.put_service_key(service_key("names"), replacing=None)
        keys.put_service_key(service_key("throttles"), replacing=None)
        assert keys.put_service_key(service_key("throttles", b"second"), replacing=b"first")
        assert keys.service_keys() == [
            service_key("names"),
            service_key("throttles", b"second"),
        ]

    def test_service_keys_are_listed_by_how_their_names_begin(self, keys: KeyStore, other: KeyStore) -> None:
        for name in ("cookies-9", "throttles", "cookies-10", "cookie", "cookies%", "Cookies-1"):
            keys.put_service_key(service_key(name, name.encode()), replacing=None)
        assert [key.name for key in other.service_keys("cookies-")] == ["cookies-10", "cookies-9"]
        assert other.service_keys("cookies-10") == [service_key("cookies-10", b"cookies-10")]
        assert other.service_keys("cookies_") == other.service_keys("cookies-9%") == other.service_keys("x") == []
        assert len(other.service_keys()) == 6

    def test_one_service_key_is_destroyed(self, keys: KeyStore, other: KeyStore) -> None:
        keys.put_service_key(service_key("cookies-1"), replacing=None)
        keys.put_service_key(service_key("cookies-11"), replacing=None)
        assert other.destroy_service_key("cookies-1")
        assert not keys.destroy_service_key("cookies-1")
        assert keys.service_keys() == [service_key("cookies-11")]
        assert keys.put_service_key(service_key("cookies-1", b"anew"), replacing=None)
