"""Aim: a spill, a lost tensor-core instruction and a narrowed load are failures that name the kernel, and what nvcc and
nvdisasm say is read rightly. Method: made-up counts against made-up tables, and lines as the tools print them."""

import contextlib
import io
import os
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import names  # noqa: E402
import table  # noqa: E402

FAST = {"registers": 100, "shared": 4096, "spill_stores": 0, "spill_loads": 0, "hmma": 16, "hgmma": 0, "ldgsts": 4,
        "ldg128": 6, "narrow": 2}
KEY = ("attention.cu:attention<64>", "sm_90")


class Table(unittest.TestCase):
    def setUp(self):
        handle, table.TABLE = tempfile.mkstemp()
        os.close(handle)
        table.write_table("13.0.88", {KEY: FAST})

    def tearDown(self):
        os.remove(table.TABLE)

    def compare(self, found, version="13.0.88"):
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            wrong = table.compare(found, ["sm_90"], version)
        return wrong, said.getvalue()

    def test_equal(self):
        self.assertEqual(self.compare({KEY: FAST}), ([], ""))

    def test_losses_fail_and_name_the_kernel(self):
        for change, text in ((dict(hmma=0), "hmma"), (dict(ldgsts=0), "ldgsts"), (dict(ldg128=0), "ldg128"),
                             (dict(ldg128=3, narrow=9), "narrow"), (dict(spill_loads=8), "spills")):
            wrong, _ = self.compare({KEY: dict(FAST, **change)})
            self.assertTrue(wrong and KEY[0] in wrong[0] and any(text in w for w in wrong), (change, wrong))

    def test_a_fast_kernel_that_is_gone_fails(self):
        self.assertIn("is gone", self.compare({})[0][0])

    def test_registers_and_new_kernels_are_shown(self):
        new = ("rope.cu:rope<float>", "sm_90")
        wrong, said = self.compare({KEY: dict(FAST, registers=128), new: FAST})
        self.assertEqual(wrong, [])
        self.assertIn("registers: 100, now 128", said)
        self.assertIn("rope.cu:rope<float> on sm_90: is not in the table", said)

    def test_another_compiler_compares_spills_only(self):
        self.assertEqual(self.compare({KEY: dict(FAST, hmma=0)}, "13.1.5")[0], [])
        self.assertEqual(len(self.compare({KEY: dict(FAST, spill_stores=4)}, "13.1.5")[0]), 1)

    def test_instructions(self):
        listing = ("HMMA.16816.F32.BF16 R4, R8\nHFMA2.MMA R3, -RZ\nLDGSTS.E.BYPASS.LTC128B.128 [R2], desc[UR4][R6.64]\n"
                   "LDG.E.128.CONSTANT R4, desc\nLDG.E.LTC128B.128 R8, desc\nLDG.E.U16 R1, desc\nLDG.E R1, desc\n"
                   "LDG.E.LTC128B.64 R2, desc\nHGMMA.64x64x16.F32.BF16 R24, gdesc\n")
        counts = {column: len(pattern.findall(listing)) for column, pattern in table.INSTRUCTIONS.items()}
        self.assertEqual(counts, {"hmma": 1, "hgmma": 1, "ldgsts": 1, "ldg128": 2, "narrow": 3})

    def test_names(self):
        for name, want in (("void linear_rows<__nv_bfloat16, float, 8>(float*, args<float>)", "linear_rows<bf16, float, 8>"),
                           ("void rope<float>(float *, (anonymous namespace)::table)", "rope<float>"),
                           ("void attend<(int)64, (bool)1>(int)", "attend<64, 1>"), ("sample(out*)", "sample")):
            self.assertEqual(names.short(name), want)


if __name__ == "__main__":
    unittest.main()
