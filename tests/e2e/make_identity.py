"""Made tests/e2e/identity.h, once: keys and signed claims for a broker that is only ever a test's. PyNaCl 1.6.2.

    python tests/e2e/make_identity.py >tests/e2e/identity.h
"""
import base64
import json

from nacl.signing import SigningKey

PREFIX = {"operator": 14 << 3, "account": 0, "user": 20 << 3, "seed": 18 << 3}


def crc16(data):
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc.to_bytes(2, "little")


def base32(data):
    return base64.b32encode(data + crc16(data)).decode().rstrip("=")


def base64url(value):
    data = value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


class Key:
    def __init__(self, kind, number):
        self.kind, self.key = kind, SigningKey(bytes([number]) * 32)
        self.public = base32(bytes([PREFIX[kind]]) + bytes(self.key.verify_key))
        first, second = PREFIX["seed"] | PREFIX[kind] >> 5, (PREFIX[kind] & 31) << 3
        self.seed = base32(bytes([first, second]) + bytes(self.key))

    def sign(self, subject, name, more):
        claims = {"jti": "TEST", "iat": 1700000000, "iss": self.public, "sub": subject.public, "name": name,
                  "nats": {"type": subject.kind, "version": 2, **more}}
        signed = base64url({"typ": "JWT", "alg": "ed25519-nkey"}) + "." + base64url(claims)
        return signed + "." + base64url(self.key.sign(signed.encode()).signature)


def literal(name, text):
    pieces = [text[i:i + 90] for i in range(0, len(text), 90)]
    return f"static const char {name}[] =\n" + "\n".join(f'    "{piece}"' for piece in pieces) + ";\n"


operator, account, user, stranger = (Key(k, n) for k, n in (("operator", 1), ("account", 2), ("user", 3), ("user", 4)))
unlimited = {name: -1 for name in ("subs", "data", "payload", "imports", "exports", "conn", "leaf")}
print("/* Keys and claims of make_identity.py, for brokers that are only ever a test's: no secret of anybody. */\n"
      "#ifndef KF_TESTS_E2E_IDENTITY_H\n#define KF_TESTS_E2E_IDENTITY_H\n")
print(literal("operator_jwt", operator.sign(operator, "test", {})))
print(literal("account_jwt", operator.sign(account, "shop", {"limits": {**unlimited, "wildcards": True}})))
print(literal("user_jwt", account.sign(user, "worker", {"subs": -1, "data": -1, "payload": -1, "pub": {}, "sub": {}})))
print(literal("account_key", account.public))
print(literal("user_key", user.public))
print(literal("user_seed", user.seed))
print(literal("stranger_key", stranger.public))
print(literal("stranger_seed", stranger.seed))
print("#endif")
