"""Which package of an environment brings which module: what is known by heart, and what a name suggests. Pure.

The names of modules and packages differ often enough that silence is no proof: so the answer has three values.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import Enum
from types import MappingProxyType

from packaging.utils import canonicalize_name

from moorings.environments.conda_names import RENAMED, WELL_KNOWN
from moorings.errors.diagnosis.packages import NAMESPACES, PACKAGE_OF_MODULE, package_of

Version = tuple[int, ...]


class Brought(Enum):
    """Whether an environment has a module."""

    YES = "yes"
    NO = "no"
    MAYBE = "maybe"
    """One of its packages might bring it under another name."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


OTHER_PACKAGES: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "attr": _words("attrs"),
        "attrs": _words("attrs"),
        "Crypto": _words("pycryptodome pycrypto"),
        "Cryptodome": _words("pycryptodomex"),
        "cv2": _words(
            "opencv-python opencv-python-headless opencv-contrib-python opencv-contrib-python-headless"
        ),
        "distutils": _words("setuptools"),
        "pkg_resources": _words("setuptools"),
        "_distutils_hack": _words("setuptools"),
        "dateutil": _words("python-dateutil"),
        "dgl": _words("dgl dgl-cu117 dgl-cu118"),
        "faiss": _words("faiss-cpu faiss-gpu faiss-gpu-cu11 faiss-gpu-cu12"),
        "google.protobuf": _words("protobuf"),
        "imblearn": _words("imbalanced-learn"),
        "jax": _words("jax"),
        "jaxlib": _words("jaxlib"),
        "Levenshtein": _words("levenshtein python-levenshtein rapidfuzz"),
        "lightgbm": _words("lightgbm"),
        "magic": _words("python-magic python-magic-bin"),
        "markdown": _words("markdown"),
        "mlflow": _words("mlflow mlflow-skinny mlflow-tracing"),
        "MySQLdb": _words("mysqlclient"),
        "onnxruntime": _words("onnxruntime onnxruntime-gpu onnxruntime-directml onnxruntime-openvino"),
        "OpenSSL": _words("pyopenssl"),
        "PIL": _words("pillow pillow-simd"),
        "psycopg2": _words("psycopg2 psycopg2-binary"),
        "pylab": _words("matplotlib"),
        "pythonjsonlogger": _words("python-json-logger"),
        "pytorch_lightning": _words("pytorch-lightning"),
        "ruamel.yaml": _words("ruamel-yaml"),
        "slugify": _words("python-slugify unicode-slugify"),
        "tensorflow": _words(
            "tensorflow tensorflow-cpu tensorflow-gpu tensorflow-intel tensorflow-macos tensorflow-rocm "
            "tf-nightly tensorflow-cpu-aws"
        ),
        "tflite_runtime": _words("tflite-runtime"),
        "torch": _words("torch torch-nightly"),
        "xgboost": _words("xgboost xgboost-cpu"),
        "yaml": _words("pyyaml"),
    }
)
"""Modules that are brought by packages of other names, or by one of several."""

SEVERAL: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "azureml-inference-server-http": _words("azureml_inference_server_http"),
        "azureml-defaults": frozenset(),
        "jupyter": frozenset(),
        "matplotlib": _words("matplotlib mpl_toolkits pylab"),
        "numpy": _words("numpy"),
        "pandas": _words("pandas"),
        "pywin32": _words("win32api win32con win32gui win32com pythoncom pywintypes"),
        "scikit-learn": _words("sklearn"),
        "scipy": _words("scipy"),
        "setuptools": _words("setuptools pkg_resources _distutils_hack distutils"),
        "six": _words("six"),
        "torch": _words("torch torchgen functorch"),
        "typing-extensions": _words("typing_extensions"),
    }
)
"""Packages whose modules are all known, beyond those of the same name."""

PLAIN = _words(
    """
    absl-py aiofiles aiohttp aiosignal alembic annotated-types anyio asgiref astunparse async-timeout blinker blosc
    cachetools catboost certifi cffi chardet charset-normalizer click cloudpickle colorama contourpy cryptography cycler
    dask databricks-sdk dill distributed docker einops et-xmlfile evaluate fastapi filelock flask flask-cors flatbuffers
    fonttools frozenlist fsspec gast gensim geopandas gitdb gitpython graphene graphql-core graphql-relay greenlet
    grpcio gunicorn h11 h5py httpcore httptools httpx huey huggingface-hub idna imageio importlib-metadata
    importlib-resources inference-schema itsdangerous jinja2 jmespath joblib jsonschema keras kiwisolver lightgbm
    llvmlite lxml mako markdown markdown-it-py markupsafe mdurl mlflow-skinny ml-dtypes moorings-server mpmath msgpack
    msrest multidict namex narwhals networkx nltk numba numexpr oauthlib onnx onnxruntime openai openpyxl opt-einsum
    optree optuna orjson packaging patsy pip plotly polars propcache prometheus-client psutil pyarrow pyasn1
    pyasn1-modules pycparser pydantic pydantic-core pydantic-settings pydot pygments pyparsing pytz pywavelets
    redis referencing regex requests requests-oauthlib rich rpds-py rsa safetensors seaborn sentencepiece shap shellingham
    skops smmap sniffio spacy sqlalchemy sqlparse starlette statsmodels sympy tables tabulate tenacity tensorboard
    tensorboard-data-server termcolor thinc threadpoolctl tifffile tokenizers torchaudio torchmetrics torchvision
    tornado tqdm transformers triton typer typing-inspection tzdata tzlocal urllib3 uvicorn uvloop watchdog
    websockets werkzeug wheel wrapt xgboost yarl zipp
    """
)
"""Packages that bring the module of their own name (or the one in `PACKAGE_OF_MODULE`), and no other that scripts
import."""

SERVER_MODULES = _words(
    """
    moorings_server azureml.contrib.services.aml_request azureml.contrib.services.aml_response
    azureml_inference_server_http.api
    """
)
"""What the inference server brings into every environment, old names of its own included."""

STDLIB_ADDED: Mapping[str, Version] = MappingProxyType(
    {
        **dict.fromkeys(("graphlib", "zoneinfo"), (3, 9)),
        "tomllib": (3, 11),
        **dict.fromkeys(("annotationlib", "compression"), (3, 14)),
    }
)
STDLIB_REMOVED: Mapping[str, Version] = MappingProxyType(
    {
        **dict.fromkeys(("dummy_threading",), (3, 9)),
        **dict.fromkeys(("formatter", "parser", "symbol", "macpath"), (3, 10)),
        "binhex": (3, 11),
        **dict.fromkeys(("asynchat", "asyncore", "distutils", "imp", "smtpd"), (3, 12)),
        **dict.fromkeys(
            """aifc audioop cgi cgitb chunk crypt imghdr lib2to3 mailcap msilib nis nntplib ossaudiodev pipes sndhdr
            spwd sunau telnetlib uu xdrlib""".split(),  # noqa: SIM905 - a table of words
            (3, 13),
        ),
    }
)
"""Module of the standard library -> first Python with it, or without it. `sys.stdlib_module_names` says the rest."""


def in_stdlib(module: str, python: Version, ours: Collection[str]) -> bool:
    """Whether Python `python` (`(3, 12)`) has it itself; `ours`: the names that the Python which asks knows."""
    top = module.partition(".")[0]
    if python >= STDLIB_REMOVED.get(top, (99,)):
        return False
    if top in STDLIB_REMOVED:
        return True
    return python >= STDLIB_ADDED.get(top, (0,)) and (top in ours or top in STDLIB_ADDED)


def brought(module: str, packages: Collection[str]) -> Brought:
    """Whether one of `packages` (canonical names, all that will be installed) brings `module` (dotted)."""
    if any(module == ours or ours.startswith(f"{module}.") for ours in SERVER_MODULES):
        return Brought.YES
    if any(module.startswith(f"{ours}.") for ours in SERVER_MODULES):
        return Brought.YES
    top = module.partition(".")[0]
    providers = _providers(module)
    if providers & set(packages):
        return Brought.YES
    if top in NAMESPACES:
        return _of_namespace(module, packages)
    if is_known(top):
        return Brought.NO
    return Brought.MAYBE if any(not _is_transparent(each) for each in packages) else Brought.NO


def _providers(module: str) -> set[str]:
    """Packages that would bring it, for all that is known or suggested."""
    parts = module.split(".")
    found: set[str] = set()
    for depth in range(1, len(parts) + 1):
        name = ".".join(parts[:depth])
        found |= OTHER_PACKAGES.get(name, frozenset())
    top = parts[0]
    if top in NAMESPACES:
        found |= {canonicalize_name("-".join(parts[:depth])) for depth in range(2, len(parts) + 1)}
        return found
    found |= {package for package, modules in SEVERAL.items() if top in modules}
    plain = canonicalize_name(top)
    found |= {canonicalize_name(package_of(top)), plain, RENAMED.get(plain, plain)}
    found |= {f"python-{plain}", f"py{plain}", f"{plain}-python", f"{plain}-py"}
    return found


def _of_namespace(module: str, packages: Collection[str]) -> Brought:
    """A package of the same namespace may bring more than its name says."""
    top, _, rest = module.partition(".")
    kin = f"{top}-{rest.partition('.')[0]}".rstrip("-").replace("_", "-")
    if not any(each.startswith(kin) for each in packages):
        return Brought.NO
    return Brought.MAYBE if rest else Brought.YES


def is_known(top: str) -> bool:
    """Whether it is known by heart which packages bring it."""
    plain = canonicalize_name(top)
    if top in PACKAGE_OF_MODULE or top in OTHER_PACKAGES or plain in PLAIN or plain in WELL_KNOWN:
        return True
    return any(top in modules for modules in SEVERAL.values())


def _is_transparent(package: str) -> bool:
    """Whether it is known by heart what the package brings."""
    if package in PLAIN or package in SEVERAL or package in _TRANSPARENT:
        return True
    return package.startswith(("nvidia-", "azure-", "azureml-", "google-", "opentelemetry-", "types-"))


_TRANSPARENT = frozenset(
    {
        *WELL_KNOWN,
        *(canonicalize_name(each) for each in PACKAGE_OF_MODULE.values()),
        *(each for group in OTHER_PACKAGES.values() for each in group),
    }
)
