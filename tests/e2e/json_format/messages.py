"""Random messages of every type of kefu.proto, and Python's json_format as the reference for protobuf's JSON mapping.

    messages.py compare CONVERT N    N messages through CONVERT (build/release/tests/json_convert), both ways
    messages.py cases N > cases.jsonl    the set that tests/unit/test_wire_json_format.c reads: N messages, one a line

Needs the packages of requirements.txt and protoc-c; tests/e2e/json_format/run sees to both. SEED makes another set.
"""

import json
import math
import os
import random
import struct
import subprocess
import sys
import tempfile

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.descriptor import FieldDescriptor as F

PROTO = os.path.join(os.path.dirname(__file__), "../../../proto")
STYLES = [  # how one message may be spelled in JSON
    {},
    {"preserving_proto_field_name": True},
    {"use_integers_for_enums": True},
    {"preserving_proto_field_name": True, "use_integers_for_enums": True},
]
ALPHABETS = [
    "abcXYZ 019_-./",
    "我想要一件红色的羽绒服，多少钱？",
    "\"\\/\b\f\n\r\t\x01\x1f\x7f",
    "é\u0301ß\u2028\u2029\ufeff\ufffd\uffff",
    "😀👨‍👩‍👧\U0010ffff\U00010000",
]


def message_types():
    """Name → class, of every type in kefu.proto but the entries of maps."""
    with tempfile.NamedTemporaryFile() as out:
        subprocess.run(["protoc-c", "--proto_path=" + PROTO, "--descriptor_set_out=" + out.name, "kefu.proto"], check=True)
        files = descriptor_pb2.FileDescriptorSet.FromString(out.read())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    found = pool.FindFileByName("kefu.proto").message_types_by_name
    return {name: message_factory.GetMessageClass(d) for name, d in sorted(found.items())}


def a_string(r):
    return "".join(r.choice(r.choice(ALPHABETS)) for _ in range(r.choice([0, 1, 2, 5, 12])))


def an_integer(r, low, high):
    return r.choice([low, high, 0, 1, r.randint(low, high), min(high, 1 << r.randrange(high.bit_length()))])


def a_float(r, has_presence):
    kind = r.randrange(8)
    if kind == 0:
        return r.choice([math.nan, math.inf, -math.inf])
    if kind == 1:  # not the largest float: json_format writes it as 3.4028235e+38 and then finds that too large
        return r.choice([0.0, 1.0, 3.4028232635611926e38, 1.401298464324817e-45, 1.17549435e-38, 16777216.0, 0.1])
    if kind == 2 and has_presence:  # without presence protobuf-c takes -0.0 for unset, other libraries do not
        return -0.0
    if kind < 5:
        return r.randint(0, 1000) / 1000
    value = struct.unpack("<f", struct.pack("<I", r.getrandbits(32)))[0]
    return 0.5 if math.isnan(value) else value


def a_value(r, field, has_presence):
    t = field.type
    if t == F.TYPE_STRING:
        return a_string(r)
    if t == F.TYPE_BYTES:
        return r.randbytes(r.choice([0, 1, 2, 3, 4, 31]))
    if t == F.TYPE_BOOL:
        return r.random() < 0.5
    if t == F.TYPE_FLOAT:
        return a_float(r, has_presence)
    if t == F.TYPE_UINT32:
        return an_integer(r, 0, 2**32 - 1)
    if t == F.TYPE_UINT64:
        return an_integer(r, 0, 2**64 - 1)
    if t == F.TYPE_ENUM:
        known = [v.number for v in field.enum_type.values]
        return r.choice(known * 3 + [99, -1, 2**31 - 1, -(2**31)])
    raise NotImplementedError(f"{field.full_name}: say here what a random {field.cpp_type_name} is")


def fill(r, m):
    oneofs = {o.name: r.choice([None, *o.fields]) for o in m.DESCRIPTOR.oneofs}
    for f in m.DESCRIPTOR.fields:
        if f.containing_oneof:
            if oneofs[f.containing_oneof.name] is f:
                setattr(m, f.name, a_value(r, f, True))
        elif r.random() < 0.3:
            continue
        elif f.message_type and f.message_type.GetOptions().map_entry:
            for _ in range(r.randrange(4)):
                getattr(m, f.name)[a_string(r)] = a_string(r)
        elif f.is_repeated:
            for _ in range(r.choice([0, 1, 2, 5])):
                if f.message_type:
                    fill(r, getattr(m, f.name).add())
                else:
                    getattr(m, f.name).append(a_value(r, f, True))
        elif f.message_type:
            getattr(m, f.name).SetInParent()
            fill(r, getattr(m, f.name))
        else:
            setattr(m, f.name, a_value(r, f, False))


def random_messages(n):
    """(name, message), the types taking turns."""
    r = random.Random(int(os.environ.get("SEED", "3")))
    types = list(message_types().items())
    for i in range(n):
        name, cls = types[i % len(types)]
        m = cls()
        fill(r, m)
        yield name, m


def packed(m):
    return m.SerializeToString(deterministic=True)


def print_cases(n):
    for i, (name, m) in enumerate(random_messages(n)):
        case = {"type": name, "hex": packed(m).hex(), "json": json_format.MessageToDict(m)}
        style = STYLES[i % len(STYLES)]
        if style:
            case["also"] = json_format.MessageToDict(m, **style)
        print(json.dumps(case, sort_keys=True, ensure_ascii=False, separators=(",", ":")))


def compare(convert, n):
    """Every message both ways through our code and json_format's; returns how many differ."""
    messages = list(random_messages(n))
    asked = []
    for i, (name, m) in enumerate(messages):
        text = json_format.MessageToJson(m, indent=None, ensure_ascii=i % 2 == 0, **STYLES[i % len(STYLES)])
        asked.append(f"json {name} {packed(m).hex()}\n")
        asked.append(f"hex {name} {text}\n")
    out = subprocess.run([convert], input="".join(asked).encode(), stdout=subprocess.PIPE, check=True).stdout
    answers = out.decode().split("\n")[:-1]
    if len(answers) != len(asked):
        raise SystemExit(f"{len(asked)} lines went in, {len(answers)} came out")
    n_differ = 0
    for i, (name, m) in enumerate(messages):
        ours_json, ours_hex = answers[2 * i], answers[2 * i + 1]
        problems = []
        try:
            if json.loads(ours_json) != json_format.MessageToDict(m):
                problems.append("our JSON is another value")
            if packed(json_format.Parse(ours_json, type(m)())) != packed(m):
                problems.append("json_format reads our JSON as another message")
        except (ValueError, json_format.ParseError) as e:
            problems.append(f"our JSON cannot be read: {e}")
        try:
            if packed(type(m).FromString(bytes.fromhex(ours_hex))) != packed(m):
                problems.append("we read json_format's JSON as another message")
        except ValueError:
            problems.append("we refuse json_format's JSON")
        if problems:
            n_differ += 1
            if n_differ <= 5:
                print(f"{i}: {name}: {'; '.join(problems)}\n  in   {asked[2 * i + 1]}  json {ours_json}\n  hex  {ours_hex}")
    print(f"{n} random messages of {len(message_types())} types, both ways: {n_differ} differ from json_format's")
    return n_differ


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "cases":
        print_cases(int(sys.argv[2]))
    elif len(sys.argv) == 4 and sys.argv[1] == "compare":
        sys.exit(1 if compare(sys.argv[2], int(sys.argv[3])) else 0)
    else:
        sys.exit(__doc__)
