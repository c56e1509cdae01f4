"""Names of kernels as people write them."""

import re


def short(name):
    """'void linear_rows<__nv_bfloat16, (int)8>(float *, …)' as 'linear_rows<bf16, 8>'."""
    name = name.replace("(anonymous namespace)::", "").replace("__nv_bfloat16", "bf16")
    name = re.sub(r"^(?:static )?void ", "", re.sub(r"\((?:int|unsigned int|bool)\)", "", name))
    depth = 0
    for i, c in enumerate(name):  # up to the arguments: the first ( outside of <>
        depth += (c == "<") - (c == ">")
        if c == "(" and depth == 0:
            return name[:i]
    return name
