"""The request as a `@rawhttp` script sees it: method, headers, query, body, form and files, each read when it is
first asked for.

Offers what scripts use of the request objects of web frameworks; knows bytes and header lists, nothing of sockets.
"""

from __future__ import annotations

import json
from http.cookies import CookieError, SimpleCookie
from io import BytesIO
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple
from urllib.parse import parse_qsl, unquote_to_bytes

from moorings_server.wire import path_of_absolute

FORM_TYPE = "application/x-www-form-urlencoded"
MULTIPART_TYPE = "multipart/form-data"
FIELD_LIMIT = 10_000


class BadRequestData(ValueError):  # noqa: N818 - a value that is wrong, as ValueError is named
    """The body is not what the script asked for (JSON, a form). `code` is the status that fits."""

    def __init__(self, message: str, code: int = 400) -> None:
        super().__init__(message)
        self.code = code


class Headers:
    """Header lines in order; names are compared without regard to case. Iterating gives (name, value) pairs."""

    def __init__(self, lines: Optional[List[Tuple[str, str]]] = None) -> None:
        self._lines = list(lines or [])

    def get(self, name: str, default: Any = None, type: Optional[Callable[[str], Any]] = None) -> Any:
        found = self.getlist(name)
        return _converted(found[0], default, type) if found else default

    def getlist(self, name: str) -> List[str]:
        key = name.lower()
        return [value for line, value in self._lines if line.lower() == key]

    get_all = getlist

    def __getitem__(self, name: str) -> str:
        found = self.getlist(name)
        if not found:
            raise KeyError(name)
        return found[0]

    def __setitem__(self, name: str, value: str) -> None:
        del self[name]
        self._lines.append((name, value))

    def __delitem__(self, name: str) -> None:
        key = name.lower()
        self._lines = [line for line in self._lines if line[0].lower() != key]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(self.getlist(name))

    def __iter__(self) -> Iterator[Tuple[str, str]]:
        return iter(self._lines)

    def __len__(self) -> int:
        return len(self._lines)

    def items(self) -> List[Tuple[str, str]]:
        return list(self._lines)

    def keys(self) -> List[str]:
        return [name for name, _ in self._lines]

    def values(self) -> List[str]:
        return [value for _, value in self._lines]

    def add(self, name: str, value: str) -> None:
        self._lines.append((name, value))

    add_header = add

    def __repr__(self) -> str:
        return "Headers(%r)" % (self._lines,)


class MultiDict(Dict[str, Any]):
    """A dict of first values; `getlist` gives all values of a name."""

    def __init__(self, pairs: List[Tuple[str, Any]]) -> None:
        self._lists: Dict[str, List[Any]] = {}
        for name, value in pairs:
            self._lists.setdefault(name, []).append(value)
        super().__init__((name, values[0]) for name, values in self._lists.items())

    def get(self, name: str, default: Any = None, type: Optional[Callable[[Any], Any]] = None) -> Any:
        return _converted(self[name], default, type) if name in self else default

    def getlist(self, name: str) -> List[Any]:
        return list(self._lists.get(name, []))

    def to_dict(self, flat: bool = True) -> Dict[str, Any]:
        return dict(self) if flat else {name: list(values) for name, values in self._lists.items()}

    def lists(self) -> List[Tuple[str, List[Any]]]:
        return list(self._lists.items())


def _converted(value: Any, default: Any, convert: Optional[Callable[[Any], Any]]) -> Any:
    if convert is None:
        return value
    try:
        return convert(value)
    except (ValueError, TypeError):
        return default


class UploadedFile:
    """One file of a multipart body."""

    def __init__(self, name: str, filename: str, headers: Headers, content: bytes) -> None:
        self.name = name
        self.filename = filename
        self.headers = headers
        self.content_type = headers.get("Content-Type", "application/octet-stream")
        self.mimetype = self.content_type.partition(";")[0].strip().lower()
        self.content_length = len(content)
        self.stream = BytesIO(content)

    def read(self, size: int = -1) -> bytes:
        return self.stream.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.stream.seek(offset, whence)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.stream)

    def save(self, destination: Any) -> None:
        """Write the rest of the file to a path or a binary file object."""
        if hasattr(destination, "write"):
            destination.write(self.stream.read())
            return
        with open(destination, "wb") as handle:
            handle.write(self.stream.read())


class RawRequest:
    """One request to /score. Attributes are named as in Flask; bodies are whole in memory."""

    scheme = "http"
    is_secure = False
    root_path = ""
    script_root = ""

    def __init__(
        self, method: bytes, target: bytes, lines: List[Tuple[bytes, bytes]], body: bytes, peer: Optional[str]
    ) -> None:
        self.method = method.decode("ascii")
        self._target = target
        self._lines = lines
        self._body = body
        self.remote_addr = peer
        self._kept: Dict[str, Any] = {}

    def _once(self, name: str, make: Callable[[], Any]) -> Any:
        if name not in self._kept:
            self._kept[name] = make()
        return self._kept[name]

    # --- head -------------------------------------------------------------------------------------------------------

    @property
    def headers(self) -> Headers:
        """Names in Title-Case, repeated ones joined by a comma."""
        return self._once("headers", lambda: Headers(list(header_dict(self._lines).items())))  # type: ignore[no-any-return]

    @property
    def query_string(self) -> bytes:
        return self._target.partition(b"#")[0].partition(b"?")[2]

    @property
    def path(self) -> str:
        return unquote_to_bytes(_path(self._target)).decode("utf-8", "replace")

    @property
    def full_path(self) -> str:
        return self.path + "?" + self.query_string.decode("latin-1")

    @property
    def host(self) -> str:
        return str(self.headers.get("Host", "localhost"))

    @property
    def host_url(self) -> str:
        return "http://%s/" % self.host

    url_root = host_url

    @property
    def base_url(self) -> str:
        return "http://%s%s" % (self.host, self.path)

    @property
    def url(self) -> str:
        query = self.query_string.decode("latin-1")
        return self.base_url + ("?" + query if query else "")

    @property
    def args(self) -> MultiDict:
        return self._once("args", lambda: _pairs(self.query_string))  # type: ignore[no-any-return]

    @property
    def content_type(self) -> Optional[str]:
        found: Optional[str] = self.headers.get("Content-Type")
        return found

    @property
    def content_length(self) -> Optional[int]:
        found: Optional[int] = self.headers.get("Content-Length", None, int)
        return found

    @property
    def mimetype(self) -> str:
        return (self.content_type or "").partition(";")[0].strip().lower()

    @property
    def mimetype_params(self) -> Dict[str, str]:
        return _parameters(self.content_type or "")

    @property
    def is_json(self) -> bool:
        return is_json_type(self.mimetype)

    @property
    def user_agent(self) -> str:
        return str(self.headers.get("User-Agent", ""))

    @property
    def access_route(self) -> List[str]:
        """The addresses that X-Forwarded-For names, or the peer's."""
        named = self.headers.get("X-Forwarded-For")
        if named:
            return [part.strip() for part in named.split(",")]
        return [self.remote_addr] if self.remote_addr else []

    @property
    def cookies(self) -> Dict[str, str]:
        return self._once("cookies", lambda: _cookies(self.headers.get("Cookie", "")))  # type: ignore[no-any-return]

    # --- body -------------------------------------------------------------------------------------------------------

    def get_data(self, cache: bool = True, as_text: bool = False, parse_form_data: bool = False) -> Any:
        """The body as bytes, whatever its content type; as text (UTF-8, replacing what is none) if asked."""
        return self._body.decode("utf-8", "replace") if as_text else self._body

    @property
    def data(self) -> bytes:
        return self._body

    @property
    def stream(self) -> BytesIO:
        return self._once("stream", lambda: BytesIO(self._body))  # type: ignore[no-any-return]

    def get_json(self, force: bool = False, silent: bool = False, cache: bool = True) -> Any:
        """The body as JSON. Raises BadRequestData (None with `silent`) when it is none, or is not declared to be
        and not `force`d."""
        try:
            return self._once("json", lambda: self._parse_json(force))
        except BadRequestData:
            if silent:
                return None
            raise

    def _parse_json(self, force: bool) -> Any:
        if not (force or self.is_json):
            raise BadRequestData("The Content-Type of the request is not application/json", 415)
        try:
            return json.loads(self._body)
        except (ValueError, RecursionError) as failure:
            raise BadRequestData("The body is not valid JSON: %s" % failure) from failure

    @property
    def json(self) -> Any:
        return self.get_json()

    @property
    def form(self) -> MultiDict:
        """The text fields of a form body; empty for any other content type."""
        return self._form()[0]

    @property
    def files(self) -> MultiDict:
        """The files of a multipart body, by field name."""
        return self._form()[1]

    @property
    def values(self) -> MultiDict:
        pairs = [
            (name, value) for part in (self.args, self.form) for name, all_ in part.lists() for value in all_
        ]
        return MultiDict(pairs)

    def _form(self) -> Tuple[MultiDict, MultiDict]:
        return self._once("form", self._parse_form)  # type: ignore[no-any-return]

    def _parse_form(self) -> Tuple[MultiDict, MultiDict]:
        if self.mimetype == FORM_TYPE:
            return _pairs(self._body), MultiDict([])
        boundary = self.mimetype_params.get("boundary", "")
        if self.mimetype != MULTIPART_TYPE or not boundary:
            return MultiDict([]), MultiDict([])
        fields: List[Tuple[str, str]] = []
        files: List[Tuple[str, UploadedFile]] = []
        for name, filename, headers, content in multipart(self._body, boundary.encode("latin-1")):
            if filename is None:
                fields.append((name, content.decode("utf-8", "replace")))
            else:
                files.append((name, UploadedFile(name, filename, headers, content)))
        return MultiDict(fields), MultiDict(files)

    def __repr__(self) -> str:
        return "<RawRequest %s %s>" % (self.method, self._target.decode("latin-1"))


def header_dict(raw: List[Tuple[bytes, bytes]]) -> Dict[str, str]:
    """Request headers as `request_headers` shows them: names in Title-Case, repeated ones joined by a
    comma."""
    found: Dict[str, str] = {}
    for name, value in raw:
        key = name.decode("latin-1").title()
        text = value.decode("latin-1")
        found[key] = found[key] + "," + text if key in found else text
    return found


def is_json_type(mimetype: str) -> bool:
    """Whether a media type (without parameters, lower case) says JSON."""
    return mimetype == "application/json" or (
        mimetype.startswith("application/") and mimetype.endswith("+json")
    )


def _path(target: bytes) -> bytes:
    path = target if target.startswith(b"/") else path_of_absolute(target)
    return path.partition(b"#")[0].partition(b"?")[0]


def _pairs(data: bytes) -> MultiDict:
    found = parse_qsl(data.decode("latin-1"), keep_blank_values=True, encoding="utf-8", errors="replace")
    return MultiDict(list(found[:FIELD_LIMIT]))


def _cookies(text: str) -> Dict[str, str]:
    try:
        return {name: morsel.value for name, morsel in SimpleCookie(text).items()}
    except CookieError:
        return {}


def _parameters(value: str) -> Dict[str, str]:
    """The parameters behind the first semicolon of a header value: `form-data; name="a"`."""
    found: Dict[str, str] = {}
    rest = value.partition(";")[2]
    while rest:
        name, equals, rest = rest.partition("=")
        if not equals:
            break
        rest = rest.lstrip()
        if rest.startswith('"'):
            text, position = [], 1
            while position < len(rest) and rest[position] != '"':
                position += rest[position] == "\\" and position + 1 < len(rest)
                text.append(rest[position])
                position += 1
            found[name.strip().lower()] = "".join(text)
            rest = rest[position + 1 :].partition(";")[2]
        else:
            plain, _, rest = rest.partition(";")
            found[name.strip().lower()] = plain.strip()
    return found


def multipart(body: bytes, boundary: bytes) -> Iterator[Tuple[str, Optional[str], Headers, bytes]]:
    """(field name, file name or None, headers, content) of each part. Parts without a name are left out, as is
    everything from the first malformed part on."""
    marker = b"\r\n--" + boundary
    pieces = (b"\r\n" + body).split(marker)
    for piece in pieces[1 : FIELD_LIMIT + 1]:
        if piece.startswith(b"--"):
            return
        head, found, content = piece.partition(b"\r\n\r\n")
        if not found:
            return
        lines = [line.partition(b":") for line in head.split(b"\r\n") if line.strip()]
        headers = Headers(
            [
                (name.decode("latin-1").strip(), value.decode("utf-8", "replace").strip())
                for name, _, value in lines
            ]
        )
        parameters = _parameters(headers.get("Content-Disposition", ""))
        if "name" in parameters:
            yield parameters["name"], parameters.get("filename"), headers, content
