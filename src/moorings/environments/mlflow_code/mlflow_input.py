"""From a request's JSON to what `model.predict` takes, checked against the model's signature: all that does not fit is
said at once, with the column and the row.

Knows pandas, numpy and MLflow's schema; nothing of HTTP and of the model itself. Python 3.8 syntax.
"""

import base64
import binascii

import numpy as np
import pandas as pd

FORMS = ("input_data", "dataframe_split", "dataframe_records", "instances", "inputs")
"""Keys of which a request has exactly one. `input_data` is the platform's; the others are those of MLflow's own server,
and are answered as it does."""
MOST_PROBLEMS = 20
_INTEGERS = {"integer": np.int32, "long": np.int64}
_FLOATS = {"float": np.float32, "double": np.float64}


class InputError(ValueError):
    """The request does not fit. `problems`: one text for each reason."""

    def __init__(self, problems):
        shown = problems[:MOST_PROBLEMS]
        if len(problems) > MOST_PROBLEMS:
            shown.append("and %d more" % (len(problems) - MOST_PROBLEMS))
        super().__init__("the input does not fit the model: " + "; ".join(shown))
        self.problems = shown


def read(document, schema):
    """(form, data, params) of a parsed request. `schema`: the signature's inputs, or None. Raises InputError."""
    if not isinstance(document, dict):
        raise InputError(["expected a JSON object with the key input_data, not %s" % _kind(document)])
    found = [form for form in FORMS if form in document]
    if len(found) != 1:
        has = (
            "it has %s" % " and ".join(found)
            if found
            else "its keys are %s" % (", ".join(document) or "none")
        )
        raise InputError(
            [
                "expected a JSON object with the key input_data (or one of %s); %s"
                % (", ".join(FORMS[1:]), has)
            ]
        )
    unknown = sorted(set(document) - {found[0], "params", "signature_name"})
    if unknown:
        raise InputError(["unknown keys beside %s: %s (known: params)" % (found[0], ", ".join(unknown))])
    params = document.get("params")
    if params is not None and not isinstance(params, dict):
        raise InputError(["params: expected an object, not %s" % _kind(params)])
    return found[0], _shaped(found[0], document[found[0]], schema), params


def _shaped(form, given, schema):
    tensors = schema is not None and schema.is_tensor_spec()
    if form == "dataframe_split" or (form == "input_data" and not tensors and _is_split(given)):
        return _checked(_split(form, given, schema), schema)
    if form == "dataframe_records":
        return _checked(_records(form, given), schema)
    columns = schema is not None and not schema.is_tensor_spec()
    if isinstance(given, list) and given and all(isinstance(row, dict) for row in given):
        if columns or (schema is None and form == "input_data"):
            return _checked(_records(form, given), schema)
        given = _pivoted(form, given)
    if isinstance(given, dict):
        return _checked(_named_columns(form, given), schema) if columns else _tensors(form, given, schema)
    if not isinstance(given, list):
        raise InputError(["%s: expected a list or an object, not %s" % (form, _kind(given))])
    if columns:
        return _checked(_rows(form, given, schema), schema)
    return _tensor(form, given, schema)


# --- frames ---------------------------------------------------------------------------------------------------------


def _is_split(given):
    return isinstance(given, dict) and "data" in given and set(given) <= {"columns", "index", "data"}


def _split(form, given, schema):
    """`columns`, `index`, `data` as pandas splits a frame; without columns those of the signature."""
    if not _is_split(given):
        raise InputError(["%s: expected an object with columns, data and (optional) index" % form])
    data, index = given["data"], given.get("index")
    columns = given.get("columns")
    if columns is None:
        return _rows(form, data, schema)
    problems = []
    if not isinstance(columns, list):
        problems.append("%s.columns: expected a list, not %s" % (form, _kind(columns)))
    elif len(set(map(str, columns))) != len(columns):
        problems.append("%s.columns: a name is there twice" % form)
    if not isinstance(data, list):
        problems.append("%s.data: expected a list of rows, not %s" % (form, _kind(data)))
    elif isinstance(columns, list):
        problems += _uneven("%s.data" % form, data, len(columns))
        if index is not None and (not isinstance(index, list) or len(index) != len(data)):
            problems.append("%s.index: expected a list of %d values, one for each row" % (form, len(data)))
    if problems:
        raise InputError(problems)
    return _frame(form, data, columns, index)


def _rows(form, data, schema):
    """A list of rows in the order of the signature's columns."""
    if not isinstance(data, list):
        raise InputError(["%s: expected a list of rows, not %s" % (form, _kind(data))])
    names = None
    if schema is not None and not schema.is_tensor_spec():
        count = len(schema.inputs)
        names = schema.input_names() if schema.has_input_names() else list(range(count))
        if count == 1 and not any(isinstance(row, list) for row in data):
            data = [[value] for value in data]
        problems = _uneven(form, data, count)
        if problems:
            raise InputError(problems)
    return _frame(form, data, names, None)


def _uneven(place, data, width):
    return [
        "%s[%d]: expected a row of %d values, found %s"
        % (place, at, width, len(row) if isinstance(row, list) else _kind(row))
        for at, row in enumerate(data)
        if not isinstance(row, list) or len(row) != width
    ]


def _records(form, given):
    if not isinstance(given, list) or not all(isinstance(row, dict) for row in given):
        raise InputError(["%s: expected a list of objects, one for each row" % form])
    names = list(dict.fromkeys(name for row in given for name in row))
    problems = [
        "%s[%d]: the column %r is missing" % (form, at, name)
        for at, row in enumerate(given)
        for name in names
        if name not in row
    ]
    if problems:
        raise InputError(problems)
    return _frame(form, [[row[name] for name in names] for row in given], names, None)


def _named_columns(form, given):
    lengths = {name: len(values) for name, values in given.items() if isinstance(values, list)}
    if not lengths:
        return _frame(form, [list(given.values())], list(given), None)
    problems = ["%s.%s: expected a list of values" % (form, name) for name in given if name not in lengths]
    if len(set(lengths.values())) > 1:
        counts = ", ".join("%s %d" % pair for pair in lengths.items())
        problems.append("%s: the columns have different lengths: %s" % (form, counts))
    if problems:
        raise InputError(problems)
    return _frame(form, [list(row) for row in zip(*given.values())], list(given), None)


def _frame(form, data, columns, index):
    try:
        return pd.DataFrame(data=data, columns=columns, index=index)
    except (ValueError, TypeError) as failure:
        raise InputError(["%s: %s" % (form, failure)]) from failure


def _checked(frame, schema):
    """The frame in the types of the signature. Raises InputError with everything that does not fit."""
    if schema is None or schema.is_tensor_spec():
        return frame
    if not schema.has_input_names():
        if len(frame.columns) != len(schema.inputs):
            raise InputError(["expected %d columns, found %d" % (len(schema.inputs), len(frame.columns))])
        frame.columns = list(range(len(schema.inputs)))
        specs = dict(enumerate(schema.inputs))
    else:
        specs = {one.name: one for one in schema.inputs}
    problems = [
        "the column %r (%s) is missing" % (name, _type_name(spec.type))
        for name, spec in specs.items()
        if name not in frame and getattr(spec, "required", True)
    ]
    extra = [str(name) for name in frame.columns if name not in specs]
    if extra:
        known = ", ".join(map(str, specs))
        problems.append("unknown columns: %s (the model takes: %s)" % (", ".join(extra), known))
    typed = {}
    for name, spec in specs.items():
        if name in frame:
            required = getattr(spec, "required", True)
            typed[name] = _typed(frame[name], str(name), _type_name(spec.type), required, problems)
    if problems:
        raise InputError(problems)
    return pd.DataFrame(typed, index=frame.index)


def _typed(values, name, kind, required, problems):
    """A column in its type; whatever does not fit is added to `problems`."""
    convert = _CONVERTERS.get(kind)
    if convert is None:  # nested types are checked by MLflow itself
        return values
    quick = _quickly(values, kind)
    if quick is not None:
        return quick
    before = len(problems)
    done = []
    for at, value in enumerate(values):
        if value is None or (isinstance(value, float) and np.isnan(value)):
            if kind not in _FLOATS and required:
                problems.append("column %r, row %d: expected %s, found null" % (name, at, kind))
            done.append(None)
            continue
        try:
            done.append(convert(value))
        except (ValueError, TypeError, OverflowError):
            problems.append("column %r, row %d: expected %s, found %s" % (name, at, kind, _said(value)))
    if len(problems) > before:
        return values
    dtype = _FLOATS.get(kind)
    if dtype is None and None not in done:
        dtype = {"boolean": np.bool_, "datetime": "datetime64[ns]", **_INTEGERS}.get(kind)
    return pd.Series(done, index=values.index, dtype=dtype or object)


def _quickly(values, kind):
    """A column that pandas has found to be all of one kind, without a look at each value; else None."""
    have = values.dtype.kind
    if kind in _FLOATS and have in "iuf":
        return values.astype(_FLOATS[kind])
    if kind in _INTEGERS and have == "i" and len(values):
        limits = np.iinfo(_INTEGERS[kind])
        if limits.min <= values.min() and values.max() <= limits.max:
            return values.astype(_INTEGERS[kind])
    return values if kind == "boolean" and have == "b" else None


def _float(value):
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.number)):
        raise TypeError
    return float(value)


def _integer(kind):
    limits = np.iinfo(_INTEGERS[kind])

    def convert(value):
        number = _float(value)
        if number != int(number) or not limits.min <= int(value) <= limits.max:
            raise ValueError
        return int(value)

    return convert


def _boolean(value):
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError
    return bool(value)


def _string(value):
    if not isinstance(value, str):
        raise TypeError
    return value


def _binary(value):
    try:
        return base64.b64decode(_string(value), validate=True)
    except binascii.Error as failure:
        raise ValueError from failure


_CONVERTERS = {
    "float": _float,
    "double": _float,
    "integer": _integer("integer"),
    "long": _integer("long"),
    "boolean": _boolean,
    "string": _string,
    "binary": _binary,
    "datetime": lambda value: pd.Timestamp(_string(value)).to_datetime64(),
}


# --- tensors --------------------------------------------------------------------------------------------------------


def _pivoted(form, rows):
    """Rows of named values as named lists."""
    names = list(rows[0])
    if any(set(row) != set(names) for row in rows):
        raise InputError(["%s: every row needs the same names" % form])
    return {name: [row[name] for row in rows] for name in names}


def _tensors(form, given, schema):
    """Named tensors."""
    specs = {} if schema is None else {one.name: one for one in schema.inputs}
    if schema is not None and not schema.has_input_names():
        raise InputError(["%s: the model takes one tensor without a name: send a list" % form])
    problems = ["the tensor %r is missing" % name for name in specs if name not in given]
    if specs:
        known = ", ".join(specs)
        problems += ["unknown tensor %r (the model takes: %s)" % (n, known) for n in given if n not in specs]
    found = {}
    for name, values in given.items():
        try:
            found[name] = _array("%s.%s" % (form, name), values, specs.get(name))
        except InputError as failure:
            problems += failure.problems
    if problems:
        raise InputError(problems)
    return found


def _tensor(form, given, schema):
    """One tensor, or the only one of a signature that names it."""
    if schema is None:
        return _array(form, given, None)
    if len(schema.inputs) != 1:
        names = ", ".join(schema.input_names())
        raise InputError(["%s: the model takes several tensors (%s): send an object" % (form, names)])
    array = _array(form, given, schema.inputs[0])
    return {schema.input_names()[0]: array} if schema.has_input_names() else array


def _array(place, values, spec):
    """Raises InputError."""
    try:
        array = np.asarray(values)
    except ValueError as failure:
        raise InputError(["%s: not a regular list: %s" % (place, failure)]) from failure
    if array.dtype.kind == "O":
        raise InputError(["%s: holds values of different kinds, or rows of different lengths" % place])
    if spec is None:
        return array
    wanted, shape = np.dtype(spec.type), tuple(spec.shape)
    fits = {"f": "iuf", "i": "iu", "u": "iu", "b": "b", "U": "U", "S": "U", "O": "U"}.get(
        wanted.kind, "iufbU"
    )
    problems = []
    if array.size and array.dtype.kind not in fits:
        problems.append("%s: expected %s, found %s" % (place, wanted, array.dtype))
    if len(shape) != array.ndim or any(want not in (-1, size) for want, size in zip(shape, array.shape)):
        problems.append("%s: expected the shape %s, found %s" % (place, list(shape), list(array.shape)))
    if problems:
        raise InputError(problems)
    return array if wanted.kind in "USO" else array.astype(wanted)


# --- words ----------------------------------------------------------------------------------------------------------


def _type_name(kind):
    return getattr(kind, "name", None) or str(kind)


def _kind(value):
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number" if isinstance(value, (int, float)) else type(value).__name__)


def _said(value):
    text = repr(value.item() if isinstance(value, np.generic) else value)
    return text if len(text) <= 60 else text[:57] + "..."
