"""References to secrets: what they name, and what is none."""

from __future__ import annotations

import pytest

from moorings.spec.secret_references import ConnectionPart, VaultSecret, is_reference, parse


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("${{keyvault:https://Local.vault.azure.net/secrets/db}}", VaultSecret("local", "db")),
        ("${{keyvault:https://local.vault.azure.net/secrets/db/1f}}", VaultSecret("local", "db", "1f")),
        (" ${{ keyvault:https://local/secrets/db/ }} ", VaultSecret("local", "db")),
        ("${{keyvault:https://v.internal:8443/secrets/db}}", VaultSecret("v", "db")),
        ("${{azureml://connections/c}}", ConnectionPart("c")),
        ("${{azureml://connections/c/target}}", ConnectionPart("c", "target")),
        ("${{azureml://connections/c/credentials/key}}", ConnectionPart("c", "credentials", "key")),
        ("${{azureml://connections/c/metadata/a.b}}", ConnectionPart("c", "metadata", "a.b")),
    ],
)
def test_the_known_forms(text: str, found: VaultSecret | ConnectionPart) -> None:
    assert parse(text) == found
    assert is_reference(text)


@pytest.mark.parametrize("text", ["", "plain", "${HOME}", "a ${{azureml://connections/c}}", "${{", "{{x}}"])
def test_text_that_is_no_reference(text: str) -> None:
    assert parse(text) is None
    assert not is_reference(text)


@pytest.mark.parametrize(
    "inner",
    [
        "",
        "secret",
        "keyvault:http://v/secrets/s",
        "keyvault:https://v/keys/s",
        "keyvault:https://v/secrets/",
        "keyvault:https://v/secrets/a/b/c",
        "keyvault:https://v/secrets/../x",
        "azureml://connections/",
        "azureml://connections/c/credentials",
        "azureml://connections/c/target/x",
        "azureml://models/c",
        "azureml://connections/c}} ${{azureml://connections/d",
    ],
)
def test_a_reference_in_no_known_form_is_told_with_the_forms(inner: str) -> None:
    with pytest.raises(ValueError, match="none of the known forms"):
        parse(f"${{{{{inner}}}}}")


def test_a_reference_with_its_version_is_read_again() -> None:
    pinned = VaultSecret("local", "db").at("1f")
    assert parse(pinned.text) == pinned
