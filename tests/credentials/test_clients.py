"""Clients: who is known, and who is not."""

from hashlib import sha256

import pytest

from service.credentials.clients import Clients

SECRET = "5f" * 32


def written(name: str, secret: str = SECRET) -> str:
    return f"{name}:{sha256(secret.encode()).hexdigest()}"


def test_a_client_is_known_by_its_name_and_secret() -> None:
    clients = Clients([written("shop"), written("mail", "another")])
    assert clients.know("shop", SECRET)
    assert clients.know("mail", "another")
    for name, secret in (
        ("shop", "another"), ("mail", SECRET), ("", SECRET), ("nobody", SECRET), ("shop", ""), ("shop", f"{SECRET} "),
        ("Shop", SECRET), ("shop", sha256(SECRET.encode()).hexdigest()), ("shop", "\ud800"), ("shop\0", SECRET),
    ):  # fmt: skip
        assert not clients.know(name, secret)


def test_while_a_secret_is_replaced_both_will_do() -> None:
    clients = Clients([written("shop"), written("shop", "next")])
    assert clients.know("shop", SECRET)
    assert clients.know("shop", "next")
    assert not clients.know("shop", "last")


def test_without_clients_nobody_is_known() -> None:
    assert not Clients().know("", "")
    assert not Clients().know("shop", SECRET)


@pytest.mark.parametrize(
    "listed",
    ["shop", f"shop:{SECRET}0", f"shop:{SECRET.upper()}", f":{SECRET}", f"a b:{SECRET}", f"{'n' * 65}:{SECRET}",
     f"shop:{SECRET}\n"],
)  # fmt: skip
def test_what_is_no_client_is_not_listed(listed: str) -> None:
    with pytest.raises(ValueError, match="NAME:DIGEST"):
        Clients([listed])


def test_a_repr_names_the_clients_and_no_digest() -> None:
    assert repr(Clients([written("shop")])) == "Clients(shop)"
