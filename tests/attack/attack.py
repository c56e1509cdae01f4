"""Aim: whatever a stranger's client sends, there is one final reply to each request, the worker lives, does not grow,
and says nothing of the customers' words.
Method: a real nats-server and kefud on the null device with --log-level debug; 300 requests outstanding, half of them
malformed; payloads just under and over max_payload; 20,000 replies while its memory is watched (not in a sanitized
build); promtool over /metrics; then SIGTERM, and its whole log is read.

    python attack.py build/release/bin/kefud        exits with 1 and a line for what is wrong
"""
import asyncio
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

import nats
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
N_OUTSTANDING, N_GROWTH, WINDOW = 300, 20000, 256
GROWTH_BYTES_MAX = 2 << 20  # over N_GROWTH replies: a leak of 100 bytes each does not pass
MAX_PAYLOAD = 1 << 20
MARK = "芝麻开门-sesame-7351"  # stands for what a customer said; must not be in the log
OK, INVALID, EXHAUSTED, UNIMPLEMENTED = 0, 3, 8, 12
CODES = {"OK": OK, "INVALID_ARGUMENT": INVALID, "RESOURCE_EXHAUSTED": EXHAUSTED, "UNIMPLEMENTED": UNIMPLEMENTED}
AS_JSON = {"Content-Type": "application/json"}


def fail(text):
    sys.exit(f"attack: {text}")


def load_messages():
    with tempfile.NamedTemporaryFile() as out:
        subprocess.run(["protoc-c", f"--proto_path={TOP}/proto", f"--descriptor_set_out={out.name}", "kefu.proto"],
                       check=True)
        files = descriptor_pb2.FileDescriptorSet.FromString(out.read())
    pool = descriptor_pool.DescriptorPool()
    for f in files.file:
        pool.Add(f)
    types = (pool.FindMessageTypeByName(f"kefu.v1.{name}") for name in ("Request", "Response"))
    return [message_factory.GetMessageClass(t) for t in types]


Request, Response = load_messages()


# ---- what is sent: (subject, bytes, headers, the codes that may come back) ----

def good(rng, i):
    r = Request(id=f"good-{i}", text=f"{MARK} 我想要一件红色的羽绒服", user_id=MARK, want=rng.randrange(2))
    kind = i % 4
    if kind == 1:
        r.history.add(role=1, text=MARK)
        r.generate.max_tokens = 1 + rng.randrange(64)
        r.generate.stop.append(MARK)
    if kind == 2:
        r.session_id = MARK
        r.stream = True
    if kind == 3:
        return "kefu.request", json.dumps({"id": r.id, "text": r.text}).encode(), AS_JSON, {OK}
    subject = rng.choice(["kefu.request", "kefu.v1.request.shop.high.any", "kefu.v1.request.a_b-1.low.15"])
    return subject, r.SerializeToString(), None, {OK}


def bad(rng, i):
    whole = Request(id=f"bad-{i}", text=MARK * 20).SerializeToString()
    words, hot = Request(text=MARK), Request(text=MARK)
    hot.generate.temperature = 100
    kinds = [
        ("kefu.request", b"", None, {INVALID}),
        ("kefu.request", bytes(128), None, {INVALID}),
        ("kefu.request", rng.randbytes(1 + rng.randrange(2000)), None, {INVALID, EXHAUSTED, UNIMPLEMENTED}),
        ("kefu.request", whole[: len(whole) // 2], None, {INVALID}),
        ("kefu.request", b"\x2a\x04\xff\xfe\xfd\xfc", None, {INVALID}),
        ("kefu.request", b"\x2a\x03a\x00b", None, {INVALID}),
        ("kefu.request", Request(id="x" * 129, text=MARK).SerializeToString(), None, {INVALID, EXHAUSTED}),
        ("kefu.request", Request(text=MARK * 4000).SerializeToString(), None, {INVALID, EXHAUSTED}),
        ("kefu.request", Request(audio=b"RIFF" * 100).SerializeToString(), None, {UNIMPLEMENTED}),
        ("kefu.request", Request(text=MARK, deadline_ms=0).SerializeToString(), None, {INVALID}),
        ("kefu.request", hot.SerializeToString(), None, {INVALID}),
        ("kefu.request", ('{"text":"' + MARK).encode(), AS_JSON, {INVALID}),
        ("kefu.request", json.dumps({"text": MARK, MARK[-8:]: 1}).encode(), AS_JSON, {INVALID}),
        ("kefu.request", json.dumps({"text": [MARK]}).encode(), None, {INVALID}),
        ("kefu.request", b"[" * 5000, AS_JSON, {INVALID, EXHAUSTED}),
        ("kefu.v1.request.Shop.high.any", words.SerializeToString(), None, {INVALID}),
        ("kefu.v1.request.shop.urgent.any", words.SerializeToString(), None, {INVALID}),
        ("kefu.v1.request.shop.high.16", words.SerializeToString(), None, {INVALID}),
    ]
    return kinds[i % len(kinds)]


# ---- the client ----

class Client:
    """Requests outstanding on one wildcard inbox; finals by number."""

    async def open(self, url):
        self.nc = await nats.connect(url, allow_reconnect=False)
        self.inbox = self.nc.new_inbox()
        self.finals, self.n_finals, self.wanted, self.done = {}, 0, 0, asyncio.Event()
        await self.nc.subscribe(self.inbox + ".*", cb=self.take)
        await self.nc.flush()
        return self

    async def take(self, msg):
        number = int(msg.subject.rsplit(".", 1)[1])
        if not msg.data or msg.data[0] == 0x2D:
            fail(f"request {number}: an empty reply, or one that begins with 0x2D")
        if msg.data[:1] == b"{":
            r = json.loads(msg.data)
            final, code = r.get("final", False), CODES[(r.get("status") or {}).get("code", "OK")]
        else:
            r = Response.FromString(msg.data)
            final, code = r.final, r.status.code
        if not final:
            return
        if code != OK and (msg.headers or {}).get("Nats-Service-Error-Code") != str(code):
            fail(f"request {number}: code {code}, header {msg.headers}")
        self.finals.setdefault(number, []).append(code)
        self.n_finals += 1
        if self.n_finals >= self.wanted:
            self.done.set()

    async def send(self, number, what):
        subject, data, headers, _ = what
        await self.nc.publish(subject, data, reply=f"{self.inbox}.{number}", headers=headers)

    async def wait(self, n, what):
        self.wanted = self.base + n
        if self.n_finals < self.wanted:
            self.done.clear()
            try:
                await asyncio.wait_for(self.done.wait(), 120)
            except asyncio.TimeoutError:
                fail(f"{what}: {self.n_finals - self.base} of {n} finals after 120 s")

    def begin(self):
        self.finals, self.base = {}, self.n_finals


async def outstanding(c, rng):
    """Half malformed; one final for each, with the right code, and no second one."""
    c.begin()
    sent = [bad(rng, i // 2) if i % 2 else good(rng, i // 2) for i in range(N_OUTSTANDING)]
    for i, what in enumerate(sent):
        await c.send(i, what)
    await c.nc.flush()
    await c.wait(N_OUTSTANDING, "300 outstanding")
    await asyncio.sleep(0.5)
    for i, what in enumerate(sent):
        codes = c.finals.get(i, [])
        if len(codes) != 1 or codes[0] not in what[3]:
            fail(f"request {i} ({what[0]}, {what[1][:40]!r}…): finals {codes}, wanted one of {what[3]}")
    n_ok = sum(c.finals[i] == [OK] for i in range(len(sent)))
    print(f"  {N_OUTSTANDING} outstanding, half malformed: one final each, {n_ok} OK")


async def payloads(c, url):
    """As large as the broker takes: an answer. A byte more: the broker ends that client, and nobody else notices."""
    c.begin()
    for i, size in enumerate((MAX_PAYLOAD - 1, MAX_PAYLOAD)):
        r = Request(id="large", audio=b"x")
        r.audio = b"x" * (size - r.ByteSize() - 2)
        r.audio = b"x" * (len(r.audio) + size - r.ByteSize())
        assert len(r.SerializeToString()) == size
        await c.send(i, ("kefu.request", r.SerializeToString(), None, None))
    await c.nc.flush()
    await c.wait(2, "max_payload")
    if any(codes == [OK] for codes in c.finals.values()):
        fail(f"a request of max_payload: {c.finals}")
    host, port = url.split("//")[1].split(":")
    with socket.create_connection((host, int(port)), timeout=10) as s:
        s.sendall(b'CONNECT {"verbose":false}\r\nPUB kefu.request _INBOX.a %d\r\n' % (MAX_PAYLOAD + 1))
        heard = b""
        while chunk := s.recv(4096):
            heard += chunk
    if b"Maximum Payload" not in heard:
        fail(f"one byte over max_payload: the broker says {heard[-80:]!r}")
    c.begin()
    await c.send(0, ("kefu.request", Request(text=MARK).SerializeToString(), None, None))
    await c.wait(1, "after max_payload")
    print("  max_payload: answered up to it; a byte more ends that client only")


def rss_bytes(pid):
    with open(f"/proc/{pid}/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def many(c, n):
    """n replies, WINDOW at a time."""
    data = Request(text=f"{MARK} 什么时候发货").SerializeToString()
    for start in range(0, n, WINDOW):
        c.begin()
        k = min(WINDOW, n - start)
        for i in range(k):
            await c.send(i, ("kefu.request", data, None, None))
        await c.wait(k, "growth")
        if any(codes != [OK] for codes in c.finals.values()):
            fail(f"growth: {c.finals}")


async def growth(c, pid):
    await many(c, 4 * WINDOW)
    before, start = rss_bytes(pid), time.monotonic()
    await many(c, N_GROWTH)
    grown, took = rss_bytes(pid) - before, time.monotonic() - start
    print(f"  {N_GROWTH} replies in {took:.1f} s: {before >> 20} MiB, {grown / 1024:+.0f} KiB")
    if grown > GROWTH_BYTES_MAX:
        fail(f"the worker grew by {grown} bytes over {N_GROWTH} replies, at most {GROWTH_BYTES_MAX} wanted")


# ---- the processes ----

def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(what, test, seconds=60):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if found := test():
            return found
        time.sleep(0.05)
    fail(f"{what}: not within {seconds} s")


def http(address, path):
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=5) as r:
            return r.read()
    except OSError:
        return None


def check_metrics(address):
    text = http(address, "/metrics")
    r = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True)
    if r.returncode != 0:
        fail(f"promtool: {r.stdout.decode()}{r.stderr.decode()}")
    print(f"  promtool: nothing to say of {len(text.splitlines())} lines of /metrics")


def check_log(log):
    for line in log.splitlines():
        try:
            json.loads(line)
        except ValueError:
            fail(f"no line of JSON in the log: {line}")
    for secret in (MARK, MARK[:4], MARK[5:11], "羽绒服", "发货"):
        if secret in log:
            fail(f"the log has {secret}: " + next(line for line in log.splitlines() if secret in line))
    print(f"  {len(log.splitlines())} lines of log, no word of a customer")


async def attack(url, pid, sanitized):
    seed = int(os.environ.get("SEED", time.time_ns() % 1000000))
    print(f"  seed {seed}")
    c = await Client().open(url)
    await outstanding(c, random.Random(seed))
    await payloads(c, url)
    if not sanitized:
        await growth(c, pid)
    await c.nc.close()


def main():
    kefud = sys.argv[1]
    sanitized = re.search(r"/(asan|tsan|msan)/", kefud) is not None
    with tempfile.TemporaryDirectory() as d, open(f"{d}/nats.log", "w") as nats_log, open(f"{d}/log", "w") as log:
        port = free_port()
        server = os.environ.get("KEFU_TEST_NATS_SERVER", "/usr/sbin/nats-server")
        broker = subprocess.Popen([server, "-a", "127.0.0.1", "-p", str(port)], stdout=nats_log, stderr=nats_log)
        url = f"nats://127.0.0.1:{port}"
        worker = subprocess.Popen([kefud, "--nats", url, "--models", f"{TOP}/models", "--device", "null", "--http",
                                   "127.0.0.1:0", "--log-level", "debug"], stderr=log)
        try:
            said = lambda: open(log.name).read()
            found = wait_for("HTTP", lambda: re.search(r'"http_listening","address":"([^"]*)"', said()))
            wait_for("readiness", lambda: http(found[1], "/readyz"))
            asyncio.run(attack(url, worker.pid, sanitized))
            if shutil.which("promtool"):
                check_metrics(found[1])
            worker.send_signal(signal.SIGTERM)
            if (code := worker.wait(60)) != 0:
                fail(f"kefud ends with {code}: {said()[-2000:]}")
            check_log(said())
        finally:
            for p in (worker, broker):
                p.kill()
                p.wait()


main()
