"""What packages of conda channels are called on the package index, and which have no equal there.

Data only.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

CHANNELS = frozenset(
    {"defaults", "conda-forge", "anaconda", "main", "pytorch", "nvidia", "microsoft", "nodefaults"}
)
"""Channels whose Python packages are on the package index too."""

RENAMED: Mapping[str, str] = MappingProxyType(
    {
        "brotli-python": "brotli",
        "dask-core": "dask",
        "faiss": "faiss-cpu",
        "geopandas-base": "geopandas",
        "matplotlib-base": "matplotlib",
        "msgpack-python": "msgpack",
        "numpy-base": "numpy",
        "opencv": "opencv-python-headless",
        "psycopg2": "psycopg2-binary",
        "py-opencv": "opencv-python-headless",
        "py-xgboost": "xgboost",
        "py-xgboost-cpu": "xgboost",
        "py-xgboost-gpu": "xgboost",
        "pyqt": "pyqt5",
        "pytables": "tables",
        "python-blosc": "blosc",
        "python-graphviz": "graphviz",
        "python-lmdb": "lmdb",
        "python-tzdata": "tzdata",
        "pytorch": "torch",
        "pytorch-cpu": "torch",
        "pytorch-gpu": "torch",
        "ruamel-yaml": "ruamel.yaml",
        "ruamel-yaml-clib": "ruamel.yaml.clib",
        "seaborn-base": "seaborn",
        "tensorflow-base": "tensorflow",
        "tensorflow-cpu": "tensorflow",
        "tensorflow-eigen": "tensorflow",
        "tensorflow-gpu": "tensorflow",
        "tensorflow-mkl": "tensorflow",
        "xgboost-cpu": "xgboost",
    }
)
"""Canonical conda name -> name on the package index, where they differ."""


def _words(text: str) -> list[str]:
    return text.split()


_BROUGHT = "the Python packages bring their own"
_SYSTEM = "part of Python or of the machine"
_CUDA = "GPU libraries come with the Python packages or with the driver of the machine"

DROPPED: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(
            _words("""
                blas libblas libcblas liblapack liblapacke libopenblas openblas nomkl mkl
                mkl-service mkl-fft mkl-random intel-openmp llvm-openmp tbb arrow-cpp libarrow
                libprotobuf grpc-cpp libgrpc snappy lz4-c zstd blosc hdf5 libnetcdf lmdb yaml
                jpeg libjpeg-turbo libpng libtiff libwebp lcms2 openjpeg freetype giflib
                libdeflate lerc libopencv libxgboost py-xgboost-mutex cpuonly pytorch-mutex
                libtorch libllvm14 libllvm15
            """),
            _BROUGHT,
        ),
        **dict.fromkeys(
            _words("""
                ca-certificates openssl libgcc-ng libgcc libstdcxx-ng libstdcxx libgcc-mutex
                libgomp openmp-mutex libgfortran-ng libgfortran libgfortran4 libgfortran5
                ld-impl-linux-64 libffi libuuid libnsl libxcrypt libexpat expat libsqlite sqlite
                libzlib zlib xz liblzma bzip2 ncurses readline libedit tk tzdata python-abi icu
                libxml2 libuv krb5 libcurl libssh2 libnghttp2 c-ares libev keyutils cpython
                conda anaconda libiconv gettext libbrotlidec libbrotlienc libbrotlicommon
            """),
            _SYSTEM,
        ),
        **dict.fromkeys(
            _words("""
                cudatoolkit cudnn pytorch-cuda cuda cuda-version cuda-runtime cuda-cudart
                cuda-libraries cuda-nvrtc cuda-nvtx cuda-cupti libcublas libcufft libcurand
                libcusolver libcusparse nccl
            """),
            _CUDA,
        ),
    }
)
"""Canonical conda name -> why it can be left out safely."""

_NATIVE = "it is no Python package"

REFUSED: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(
            _words("""
                openjdk java-jdk nodejs gcc gxx gcc-linux-64 gxx-linux-64 gfortran compilers
                c-compiler cxx-compiler make git ffmpeg imagemagick poppler tesseract geos proj
                libgdal gsl boost boost-cpp libpq postgresql mysql redis rust go perl
                libspatialindex unixodbc freetds msodbcsql17 msodbcsql18 sox libsndfile
            """),
            f"{_NATIVE}: install it on the machine and remove the entry",
        ),
        "graphviz": f"{_NATIVE} in conda; the Python binding is python-graphviz",
        "gdal": "its Python package needs the same version of the GDAL library; rasterio brings its own",
        "ta-lib": "its Python package needs a library of the machine; list it under pip: once that is there",
        "cupy": "its Python package is named by the CUDA version: list for instance cupy-cuda12x under pip:",
        "cudatoolkit-dev": f"{_NATIVE}: install it on the machine and remove the entry",
        "nltk-data": "it is data: put it into the model or code folder",
    }
)
"""Canonical conda name -> why it cannot be translated."""

REFUSED_PREFIXES: Mapping[str, str] = MappingProxyType(
    {
        "r-": "packages of the language R cannot be used by a Python scoring script",
        "bioconductor-": "packages of the language R cannot be used by a Python scoring script",
        "spacy-model-": "list the model under pip: as <name> @ <address of its wheel>",
    }
)

NUMPY_2_SINCE: Mapping[str, str] = MappingProxyType(
    {
        "h5py": "3.11",
        "matplotlib": "3.8.4",
        "numba": "0.60",
        "numexpr": "2.10",
        "onnxruntime": "1.19",
        "opencv-python": "4.10.0.84",
        "opencv-python-headless": "4.10.0.84",
        "pandas": "2.2.2",
        "pyarrow": "16.0",
        "scikit-image": "0.23",
        "scikit-learn": "1.4.2",
        "scipy": "1.13",
        "shap": "0.46",
        "statsmodels": "0.14.2",
        "tensorflow": "2.18",
        "torch": "2.3",
    }
)
"""First versions whose compiled code works with numpy 2.

Older ones do not forbid numpy 2 in their metadata, and fail when they are imported; conda knows that from its
builds, the package index does not.
"""

WELL_KNOWN = tuple(
    _words("""
        azureml-ai-monitoring azureml-core azureml-defaults azureml-inference-server-http azureml-mlflow
        azure-ai-ml azure-identity azure-storage-blob beautifulsoup4 catboost cloudpickle datasets fastapi
        flask gensim huggingface-hub imbalanced-learn inference-schema joblib keras lightgbm mlflow
        mlflow-skinny networkx nltk numpy onnx openai pillow plotly polars protobuf psutil pydantic
        python-dateutil pyyaml requests scikit-learn seaborn sentence-transformers sentencepiece spacy
        sqlalchemy tokenizers torchaudio torchvision tqdm transformers xgboost
    """)
)
"""Names of the package index that a mistyped one is compared with."""
