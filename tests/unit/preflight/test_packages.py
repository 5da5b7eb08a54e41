"""Which package brings which module, in three values."""

from __future__ import annotations

import sys

import pytest

from moorings.errors.diagnosis.packages import package_of
from moorings.preflight.packages import Brought, brought, in_stdlib

PLAIN = {"numpy", "scikit-learn", "scipy", "joblib", "threadpoolctl", "httptools", "uvloop"}


@pytest.mark.parametrize(
    ("module", "packages", "answer"),
    [
        ("sklearn.linear_model", PLAIN, Brought.YES),
        ("joblib", PLAIN, Brought.YES),
        ("lightgbm", PLAIN, Brought.NO),
        ("something_private", PLAIN, Brought.NO),
        ("something_private", {*PLAIN, "corporate-tools"}, Brought.MAYBE),
        ("lightgbm", {*PLAIN, "corporate-tools"}, Brought.NO),
        ("corporate_tools", {"corporate-tools"}, Brought.YES),
        ("cv2", {"opencv-contrib-python"}, Brought.YES),
        ("cv2", {"numpy"}, Brought.NO),
        ("PIL.Image", {"pillow"}, Brought.YES),
        ("yaml", {"pyyaml"}, Brought.YES),
        ("dateutil", {"python-dateutil"}, Brought.YES),
        ("tensorflow", {"tensorflow-cpu"}, Brought.YES),
        ("google.protobuf", {"protobuf"}, Brought.YES),
        ("google.cloud.storage", {"google-cloud-storage"}, Brought.YES),
        ("google.cloud.storage", {"google-cloud-core"}, Brought.MAYBE),
        ("google.cloud.storage", {"protobuf"}, Brought.NO),
        ("azure.identity", {"azure-identity"}, Brought.YES),
        ("azure.storage.blob.BlobClient", {"azure-storage-blob"}, Brought.YES),
        ("azureml.core.model.Model", {"azureml-core"}, Brought.YES),
        ("azureml.core.model.Model", {"azureml-inference-server-http"}, Brought.NO),
        ("azureml.contrib.services.aml_request.rawhttp", PLAIN, Brought.YES),
        ("azureml_inference_server_http.api.aml_request", PLAIN, Brought.YES),
        ("moorings_server", PLAIN, Brought.YES),
        ("mpl_toolkits.mplot3d", {"matplotlib"}, Brought.YES),
        ("pkg_resources", {"setuptools"}, Brought.YES),
        ("ruamel.yaml", {"ruamel-yaml"}, Brought.YES),
    ],
)
def test_whether_an_environment_has_a_module(module: str, packages: set[str], answer: Brought) -> None:
    assert brought(module, packages) is answer


@pytest.mark.parametrize(
    ("module", "package"),
    [
        ("sklearn.svm", "scikit-learn"),
        ("cv2", "opencv-python-headless"),
        ("lightgbm", "lightgbm"),
        ("imblearn.over_sampling", "imbalanced-learn"),
        ("google.protobuf", "protobuf"),
        ("google.cloud.storage", "google-cloud-storage"),
        ("azure.identity.DefaultAzureCredential", "azure-identity"),
        ("azure.storage.blob.BlobClient", "azure-storage-blob"),
        ("azureml.core.Workspace", "azureml-core"),
        ("my_module", "my-module"),
    ],
)
def test_the_package_to_add(module: str, package: str) -> None:
    assert package_of(module) == package


@pytest.mark.parametrize(
    ("module", "python", "there"),
    [
        ("json", (3, 8), True),
        ("os.path", (3, 12), True),
        ("distutils.util", (3, 11), True),
        ("distutils.util", (3, 12), False),
        ("imp", (3, 12), False),
        ("cgi", (3, 12), True),
        ("cgi", (3, 13), False),
        ("tomllib", (3, 10), False),
        ("tomllib", (3, 11), True),
        ("zoneinfo", (3, 8), False),
        ("numpy", (3, 12), False),
    ],
)
def test_the_standard_library_of_another_python(module: str, python: tuple[int, ...], there: bool) -> None:
    assert in_stdlib(module, python, sys.stdlib_module_names) is there
