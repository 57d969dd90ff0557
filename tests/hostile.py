"""Files that nobody should trust: mutations of them, with right checksums.

A mutation changes what a file says, and repairs what would give it away: the
checksum of JSON, the checksum and size of an array that other files name.
"""

import json
import pathlib
import random
import re
import zlib

# Of what a field may hold by mistake or malice.
VALUES = [
    None,
    True,
    False,
    0,
    1,
    -1,
    2,
    7,
    255,
    2**31,
    2**32,
    2**36,
    2**53,
    2**63 - 1,
    2**63,
    -(2**63) - 1,
    10**30,
    0.5,
    -0.0,
    1e-320,
    1e308,
    float("nan"),
    float("inf"),
    -float("inf"),
    "",
    "0",
    "x" * 300,
    "..",
    ".",
    "../../outside",
    "/etc/passwd",
    "a/b",
    "a\\b",
    "C:x",
    "a\0b",
    "\ud800",
    "\u202e",
    "00000-00000000.npy",
    "index-00000000.npy",
    "dense",
    "int8",
    "top_k",
    "float64",
    "object",
    [],
    {},
    [[]],
    [None],
    [-1],
    [2**40, 2**40],
    [1] * 40,
    {"": {}},
    {"scale": [0.0]},
    [[1, 2]],
]


def places(value, path=()):
    """The path of each value in JSON, the whole first."""
    found = [path]
    if len(path) > 20:
        return found
    if isinstance(value, dict):
        found += [p for k, v in value.items() for p in places(v, (*path, k))]
    if isinstance(value, list):
        found += [p for n, v in enumerate(value) for p in places(v, (*path, n))]
    return found


def at(value, path):
    for step in path:
        value = value[step]
    return value


def nested(depth, generator):
    value = 1
    for _ in range(depth):
        value = [value] if generator.random() < 0.5 else {"x": value}
    return value


def other_value(before, content, generator):
    """Another value for a place: any kind, or one near to what was there."""
    kind = generator.randrange(6)
    if kind == 0 and isinstance(before, (int, float)):
        steps = [1, -1, 2**7, 2**31, -(2**31)]
        factors = [-1, 2, 1000]
        return generator.choice(
            [before + s for s in steps] + [before * f for f in factors]
        )
    if kind == 1 and isinstance(before, str) and before:
        place = generator.randrange(len(before))
        letter = generator.choice("/\\\0.:09afz\n\u00e9\ud800")
        return before[:place] + letter + before[place + 1 :]
    if kind == 2:  # What stands elsewhere in the file.
        found = at(content, generator.choice(places(content)))
        return json.loads(json.dumps(found))
    if kind == 3 and generator.random() < 0.1:
        return nested(generator.choice([50, 101, 300, 600]), generator)
    if kind == 4 and isinstance(before, list):
        return before * generator.choice([0, 2, 3]) + before[:1]
    return generator.choice(VALUES)


def change(content, generator):
    """Changes a JSON value in one to three places."""
    content = json.loads(json.dumps(content))
    for _ in range(generator.choice([1, 1, 1, 2, 3])):
        path = generator.choice(places(content))
        if not path:
            continue
        holder, last = at(content, path[:-1]), path[-1]
        how = generator.randrange(8)
        if how == 0:
            del holder[last]
        elif how == 1 and isinstance(holder, dict):
            name = generator.choice(["x", "", "a/b", "\0", "file", "scale"])
            holder[name] = holder.pop(last)
        elif how == 2 and isinstance(holder, dict):
            holder[generator.choice(["x", "format"])] = 1
        else:
            holder[last] = other_value(holder[last], content, generator)
    return content


def checksummed(content):
    """What a JSON file of a cache says, with a right checksum."""
    said = json.dumps(content, sort_keys=True).encode()
    return json.dumps({"checksum": zlib.crc32(said), **content}).encode()


def changed_json(data, generator):
    """A JSON file that says something else, under a right checksum."""
    content = json.loads(data)
    content.pop("checksum", None)
    return checksummed(change(content, generator))


def changed_bytes(data, generator):
    """A file with other bytes: flipped, cut, repeated, or put in."""
    data = bytearray(data)
    for _ in range(generator.choice([1, 1, 2, 8])):
        place = generator.randrange(len(data) + 1)
        end = min(len(data), place + generator.choice([1, 2, 8, 64]))
        how = generator.randrange(5)
        if how == 0:
            del data[place:end]
        elif how == 1:
            data[place:place] = data[place:end]
        elif how == 2:
            data[place:end] = generator.randbytes(end - place)
        elif how == 3:
            data[place:place] = generator.choice(
                [
                    b"[" * 3000,
                    b"9" * 5000,
                    b"\xff",
                    b"NaN",
                    b'"',
                    b"{",
                    b"1e999",
                ]
            )
        elif place < len(data):
            data[place] ^= 1 << generator.randrange(8)
    return bytes(data)


def put_array(folder, path, data):
    """Puts other bytes in the place of an array, as its files would have it.

    Its name, size and checksums are made right, wherever they are named.
    """
    checksum, old = zlib.crc32(data), path.name
    name = f"{old.rpartition('-')[0]}-{checksum:08x}.npy"
    path.unlink()
    path.with_name(name).write_bytes(data)
    about = {"file": name, "bytes": len(data), "checksum": checksum}
    naming = [folder / "manifest.json"]
    if path.parent != folder:
        naming.append(path.with_name("part.json"))
    for file in naming:
        content = json.loads(file.read_bytes())
        del content["checksum"]
        _replace(content, old, about)
        file.write_bytes(checksummed(content))
    touched = [path, path.with_name(name), *naming]
    names = [each.relative_to(folder).as_posix() for each in touched]
    return list(dict.fromkeys(names))


def _replace(content, old, about):
    files = [content["index"]] if "index" in content else []
    for part in content.get("parts", [content]):
        files += part["shards"]
    for file in files:
        if file["file"] == old:
            file.update(about)


def all_files(folder):
    """The content of each file."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(pathlib.Path(folder).rglob("*"))
        if path.is_file()
    }


def kind_of(error):
    """An error's kind: its type, and its words without names and numbers."""
    text = re.sub(r"'[^']*'|\"[^\"]*\"|\d+", "_", str(error))
    return f"{type(error).__name__}: {text[:60]}"


def seeded(seed):
    return random.Random(seed)
