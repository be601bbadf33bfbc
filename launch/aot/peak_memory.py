"""What a compiled step holds in a device's memory besides its arguments, at its fullest moment, from the compiler's
dump: the buffers that it assigned, and from which to which instruction each is live."""

import re


def temporaries(assignment: str, ranges: str, parameters: set[tuple[int, ...]]) -> dict[str, int]:
    """Bytes of {"gradients", "activations"}; they sum to what is allocated in HBM.

    assignment, ranges: texts of *buffer-assignment.txt and *live-range.txt. parameters: shapes of weights, of a device
    and gathered, one layer's and all layers'. Gradients: what has such a shape in float32. Everything else counts as
    activations, gathered weights in two bytes too.
    """
    allocated, buffers = _buffers(assignment)
    live = {m[1]: (int(m[2]), int(m[3])) for m in re.finditer(r"^ +(\S+\{.*?\}):(\d+)-(\d+)$", ranges, re.MULTILINE)}
    fullest: dict[tuple[int, int], bool] = {}
    for moment in {live[name][0] for name in buffers}:
        # Values that share a place, as the carry of a loop does with what it is made from, count once.
        standing: dict[tuple[int, int], bool] = {}
        for name, (place, shape) in buffers.items():
            if live[name][0] <= moment <= live[name][1]:
                standing[place] = standing.get(place, False) or _is_gradient(shape, parameters)
        if sum(size for _, size in standing) > sum(size for _, size in fullest):
            fullest = standing
    gradients = sum(size for (_, size), is_gradient in fullest.items() if is_gradient)
    return {"gradients": gradients, "activations": allocated - gradients}


def _buffers(assignment: str) -> tuple[int, dict[str, tuple[tuple[int, int], str]]]:
    """Bytes of the temporaries in HBM, and of each value there: name, (offset, size), shape."""
    for text in re.split(r"\n(?=allocation )", assignment):
        head = re.match(r"allocation \d+: size (\d+), page 0, preallocated-temp", text)  # another memory has a colour
        if head:
            values = re.finditer(
                r"value: <\d+ (\S+?)(\{.*?\})?(?: \(phi\))? @\d+> \(size=(\d+),offset=(\d+)\): (.*)", text
            )
            return int(head[1]), {m[1] + (m[2] or "{}"): ((int(m[4]), int(m[3])), m[5]) for m in values}
    return 0, {}


def _is_gradient(shape: str, parameters: set[tuple[int, ...]]) -> bool:
    dims = re.match(r"f32\[([\d,]+)\]", shape)
    if not dims:
        return False
    found = tuple(int(d) for d in dims[1].split(","))
    return found in parameters or (found[0] == 1 and found[1:] in parameters)
