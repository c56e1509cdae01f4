"""What nvcc made of every kernel, held against tests/nvcc/table.tsv. tests/nvcc/run calls it and has the options.

Each .cu file is compiled as build/nvcc/compile_commands.json says, but to a cubin for one target at a time with
ptxas -v; nvdisasm shows the instructions. A row of the table is a kernel and a target. What fails:

- a compiler's warning;
- bytes spilled, whatever the table says;
- with the table's own nvcc: an instruction of `FAST` that the table has and the code has no more; fewer 128-bit loads
  and more narrow ones; a fast kernel of the table that is gone.

Other changes (registers by more than REGISTERS_STEP, shared memory, new and vanished kernels) are shown.
"""
import argparse
import concurrent.futures
import json
import os
import re
import shlex
import subprocess
import sys

from names import short

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TABLE = os.path.join(ROOT, "tests/nvcc/table.tsv")
BUILD = os.environ.get("NVCC_BUILD", os.path.join(ROOT, "build/nvcc"))
TARGETS = {  # name: nvcc's --generate-code
    "sm_80": "arch=compute_80,code=sm_80",
    "sm_86": "arch=compute_86,code=sm_86",
    "sm_89": "arch=compute_89,code=sm_89",
    "sm_90": "arch=compute_90,code=sm_90",
    "ptx": "arch=compute_90,code=sm_100",
}
REGISTERS_STEP = 8
# Counted in the listing; narrow: loads from global memory of less than 16 bytes.
INSTRUCTIONS = {
    "hmma": re.compile(r"\bHMMA\."),
    "hgmma": re.compile(r"\bHGMMA\."),
    "ldgsts": re.compile(r"\bLDGSTS\."),
    "ldg128": re.compile(r"\bLDG\.E\.(?:\w+\.)*(?:128|256)\b"),
    "narrow": re.compile(r"\bLDG\.E(?!\.(?:\w+\.)*(?:128|256)\b)"),
}
FAST = ("hmma", "hgmma", "ldgsts", "ldg128")
RESOURCES = ("registers", "shared", "spill_stores", "spill_loads")
COLUMNS = RESOURCES + tuple(INSTRUCTIONS)


def compile_one(command, source, target):
    """The kernels of one source for one target: {mangled name: {column: count}}, and what the compiler said."""
    cubin = os.path.join(BUILD, "%s.%s.cubin" % (os.path.basename(source), target))
    words = [w for w in shlex.split(command) if not w.startswith("--generate-code")]
    words = words[: words.index("-c")] + ["-cubin", source, "-o", cubin, "-Xptxas", "-v"]
    done = subprocess.run(words + ["--generate-code", TARGETS[target]], capture_output=True, text=True, cwd=BUILD)
    said = done.stdout + done.stderr
    if done.returncode:
        return None, said
    kernels = {}
    for block in said.split("Compiling entry function '")[1:]:
        name = block[: block.index("'")]
        spill = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", block)
        shared = re.search(r"(\d+) bytes smem", block)
        kernels[name] = {
            "registers": int(re.search(r"Used (\d+) registers", block).group(1)),
            "shared": int(shared.group(1)) if shared else 0,
            "spill_stores": int(spill.group(1)),
            "spill_loads": int(spill.group(2)),
        }
    if os.environ.get("NVDISASM") and kernels:
        count_instructions(cubin, kernels)
    return kernels, said


def count_instructions(cubin, kernels):
    listing = subprocess.run([os.environ["NVDISASM"], "-c", cubin], capture_output=True, text=True, check=True).stdout
    for section in re.split(r"^//-+ \.text\.", listing, flags=re.M)[1:]:
        name = section[: section.index(" ")]
        if name in kernels:
            for column, pattern in INSTRUCTIONS.items():
                kernels[name][column] = len(pattern.findall(section))


def short_names(mangled):
    out = subprocess.run(["c++filt"], input="\n".join(mangled), capture_output=True, text=True, check=True).stdout
    return {name: short(plain) for name, plain in zip(mangled, out.split("\n"))}


def compile_all(targets):
    """{(kernel, target): {column: count}}; ends the program where a file does not compile."""
    with open(os.path.join(BUILD, "compile_commands.json")) as f:
        sources = [(e["command"], e["file"]) for e in json.load(f) if e["file"].endswith(".cu")]
    found, failures = {}, []
    with concurrent.futures.ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        jobs = [(s, t, pool.submit(compile_one, c, s, t)) for c, s in sources for t in targets]
        for source, target, job in jobs:
            kernels, said = job.result()
            if kernels is None:
                failures.append("%s for %s:\n%s" % (os.path.relpath(source, ROOT), target, said))
                continue
            names = short_names(list(kernels))
            for mangled, counts in kernels.items():
                found["%s:%s" % (os.path.basename(source), names[mangled]), target] = counts
    if failures:
        sys.exit("\n".join(failures))
    return found


def nvcc_version(command):
    said = subprocess.run([shlex.split(command)[0], "--version"], capture_output=True, text=True, check=True).stdout
    return re.search(r"V([\d.]+)", said).group(1)


def read_table():
    """(version, {(kernel, target): {column: count}})"""
    with open(TABLE) as f:
        version = f.readline().split()[2]
        columns = f.readline().rstrip("\n").split("\t")[2:]
        rows = [line.rstrip("\n").split("\t") for line in f]
    return version, {(r[0], r[1]): dict(zip(columns, map(int, r[2:]))) for r in rows}


def write_table(version, found):
    with open(TABLE, "w") as f:
        f.write("# nvcc %s (written by tests/nvcc/run --update)\n" % version)
        f.write("\t".join(("kernel", "target") + COLUMNS) + "\n")
        order = list(TARGETS)
        for kernel, target in sorted(found, key=lambda k: (k[0], order.index(k[1]))):
            counts = found[kernel, target]
            f.write("\t".join([kernel, target] + [str(counts[c]) for c in COLUMNS]) + "\n")


def differences(want, got):
    """What is wrong and what is only worth a look, of one kernel on one target."""
    wrong, seen = [], []
    for column in (c for c in FAST if c in got):
        if want[column] and not got[column]:
            wrong.append("%s: had %d, has none" % (column, want[column]))
    if got.get("ldg128", want["ldg128"]) < want["ldg128"] and got["narrow"] > want["narrow"]:
        wrong.append("128-bit loads: %d, now %d; narrow ones: %d, now %d"
                     % (want["ldg128"], got["ldg128"], want["narrow"], got["narrow"]))
    if abs(got["registers"] - want["registers"]) > REGISTERS_STEP:
        seen.append("registers: %d, now %d" % (want["registers"], got["registers"]))
    if got["shared"] != want["shared"]:
        seen.append("shared memory: %d, now %d bytes" % (want["shared"], got["shared"]))
    return wrong, seen


def compare(found, targets, version):
    """The lines of failures; prints what is only worth a look."""
    wrong = ["%s on %s: spills %d bytes of stores, %d of loads" % (k, t, c["spill_stores"], c["spill_loads"])
             for (k, t), c in found.items() if c["spill_stores"] or c["spill_loads"]]
    table_version, table = read_table()
    if version != table_version:
        print("nvcc %s, the table is of %s: only spills are compared" % (version, table_version))
        return wrong
    for key, want in table.items():
        if key[1] not in targets:
            continue
        if key in found:
            lost, seen = differences(want, found[key])
        else:
            lost, seen = (["is gone"], []) if any(want[c] for c in FAST) else ([], ["is gone"])
        wrong += ["%s on %s: %s" % (key + (what,)) for what in lost]
        for what in seen:
            print("%s on %s: %s" % (key + (what,)))
    for key in found:
        if key not in table:
            print("%s on %s: is not in the table" % key)
    return wrong


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--target", choices=TARGETS)
    a.add_argument("--update", action="store_true")
    o = a.parse_args()
    targets = [o.target] if o.target and not o.update else list(TARGETS)
    disassembler = os.environ.get("NVDISASM")
    if o.update and not disassembler:
        sys.exit("no nvdisasm: the table cannot be written without it")
    with open(os.path.join(BUILD, "compile_commands.json")) as f:
        commands = [e["command"] for e in json.load(f) if e["file"].endswith(".cu")]
    if not commands:
        sys.exit("the CUDA device is not built here: see build/nvcc.log")
    version = nvcc_version(commands[0])
    found = compile_all(targets)
    if o.update:
        write_table(version, found)
    wrong = compare(found, targets, version)
    for line in wrong:
        print("FAILED: " + line)
    if wrong:
        print("where a loss that is no spill is meant: tests/nvcc/run --update, and say why in the commit")
    n = len({k for k, _ in found})
    print("nvcc %s: %d kernels for %s; %d failures%s" % (version, n, " ".join(targets), len(wrong),
          "" if disassembler else "; instructions not compared, no nvdisasm"))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
