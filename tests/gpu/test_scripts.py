"""Aim: what a session on a card relies on without having tried it: shares, ratios and targets of the report, its plot, and
the reading of Nsight Compute's output. Method: made-up findings whose answers are known."""

import os
import sys
import unittest
import xml.dom.minidom

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import kernels  # noqa: E402
import paper  # noqa: E402
import report  # noqa: E402
import shapes  # noqa: E402

BANDWIDTH, PEAK = 2e12, 500e12

NCU = '''==PROF== Connected to process 1
{"case": "decode 1", "hash": "0"}
"ID","Kernel Name","Context","dram__bytes.sum","gpu__time_duration.sum"
"","","","byte","ns"
"0","void rmsnorm<__nv_bfloat16>(T1 *, const T1 *)","1","2048","1,500"
"1","sample(kf_sample_out *)","1","512000","9000"
"2","void linear_rows<__nv_bfloat16, float, (int)1>(T1 *)","1","12000000","6000"
"3","void linear_rows<__nv_bfloat16, float, (int)1>(T1 *)","1","12000000","4000"
"4","sample(kf_sample_out *)","1","512000","9000"
'''


def part(name, share_off, share_on, share_torch, device="cuda"):
    """A part whose cases all reach these shares."""
    made = {"part": "bench " + name, "name": name, "device": device, "tiny": False, "dtype": "bf16", "date": "today",
            "commit": "c", "failures": ["PyTorch: ended with 1"], "engine": {"off": [], "on": []},
            "torch": [{"ceiling": "bandwidth", "value": BANDWIDTH}, {"ceiling": "peak", "value": PEAK},
                      {"machine": {"card": "a card <1>", "torch": "2"}}]}
    cases = shapes.bert_cases() if name == "bert" else shapes.decoder_cases()
    for case, *_ in cases:
        _, work, ceiling = report.cost(made, case)
        us = work / {"bandwidth": BANDWIDTH, "peak": PEAK}[ceiling] * 1e6
        made["engine"]["off"].append({"case": case, "us": us / share_off})
        made["engine"]["on"].append({"case": case, "us": us / share_on})
        made["torch"] += [{"case": case, "variant": "eager", "us": 9 * us}, {"case": case, "variant": "x", "failed": "no"},
                          {"case": case, "variant": "graph", "us": us / share_torch}]
    return made


class Scripts(unittest.TestCase):
    def test_shares_and_ratio(self):
        for r in report.rows(part("llama-3.2-1b", 0.6, 0.5, 0.4)):
            self.assertAlmostEqual(r["share_off"], 0.6)
            self.assertAlmostEqual(r["share_on"], 0.5)
            self.assertAlmostEqual(r["share_torch"], 0.4)
            self.assertAlmostEqual(r["ratio"], 1.5)
            self.assertEqual(r["variant"], "graph")

    def test_bytes_and_flops_by_hand(self):
        c = shapes.SHAPES["llama-3.2-1b"]
        a_layer = 2048 * (2048 + 2 * 512) + 2048 * 2048 + 3 * 2048 * 8192
        self.assertEqual(shapes.weight_bytes(c), 2 * (16 * a_layer + 2048 * 128256))
        self.assertEqual(shapes.kv_bytes(c), 2 * 2 * 8 * 64 * 16)
        self.assertEqual(shapes.product_flops(shapes.BERT_BASE, 10, 0), 20 * 12 * (12 * 768 * 768))
        self.assertEqual(shapes.attention_flops(shapes.BERT_BASE, [3], False), 4 * 768 * 9 * 12)
        self.assertEqual(shapes.attention_flops(c, [3], True), 4 * 2048 * 6 * 16)

    def test_paper_is_no_faster_than_its_bytes(self):
        for name in shapes.DECODERS:
            floor = 1e6 * shapes.decode_bytes(shapes.SHAPES[name], 1, 513) / paper.BANDWIDTH
            self.assertGreater(paper.case_us(name, "decode 1"), floor)

    def test_targets(self):
        met = report.table([part("llama-3.2-1b", 0.71, 0.5, 0.6)])
        self.assertIn("met     llama-3.2-1b, decode 1: 71.0 % of bandwidth", met)
        self.assertNotIn("MISSED", met)
        missed = report.table([part("llama-3.2-1b", 0.69, 0.5, 0.65)])
        self.assertIn("MISSED  llama-3.2-1b, decode 1: 69.0 % of bandwidth", missed)
        self.assertIn("MISSED  llama-3.2-1b, prefill 128: 1.06 times PyTorch", missed)
        self.assertNotIn("targets", report.table([part("llama-3.2-1b", 0.1, 0.1, 0.1, device="cpu")]))

    def test_failures_show(self):
        text = report.table([part("bert", 0.5, 0.5, 0.5)])
        self.assertIn("failed: PyTorch: ended with 1", text)
        self.assertIn("failed: PyTorch, jddc 2048, x: no", text)

    def test_a_case_that_did_not_run(self):
        made = part("bert", 0.5, 0.5, 0.5)
        made["engine"] = {"off": [], "on": []}
        made["torch"] = []
        self.assertIn("length 512", report.table([made]))

    def test_the_plot_is_well_formed(self):
        drawn = xml.dom.minidom.parseString(report.plot([part("bert", 0.5, 0.4, 0.3), part("qwen3-0.6b", 0.5, 0.4, 0.3)]))
        self.assertEqual(len(drawn.getElementsByTagName("rect")), 3 + 3 * (6 + 9))

    def test_nsight_compute(self):
        found = kernels.last_run(kernels.launches(NCU))
        self.assertEqual([name for name, _, _ in found], ["linear_rows<bf16, float, 1>"] * 2 + ["sample"])
        line = kernels.table(found).split("\n")[1].split()
        self.assertEqual(line[-4:], ["2", "10.0", "5.00", "2400"])


if __name__ == "__main__":
    unittest.main()
