"""Peak live memory of a compiled step besides its arguments, from the compiler's dump: the buffers that it assigned,
and the live range of each."""

import re


def temporaries(assignment: str, ranges: str, weights: set[tuple[int, ...]]) -> dict[str, int]:
    """Bytes of {"gradients", "activations"}; they sum to what is allocated in HBM.

    assignment, ranges: texts of *buffer-assignment.txt and *live-range.txt. weights: shapes of the weights, split over
    devices and gathered, of one layer and of all layers. Gradients: buffers at the peak that have such a shape in
    float32. Everything else counts as activations, gathered two-byte weights too.
    """
    allocated, buffers = _buffers(assignment)
    live = {m[1]: (int(m[2]), int(m[3])) for m in re.finditer(r"^ +(\S+\{.*?\}):(\d+)-(\d+)$", ranges, re.MULTILINE)}
    peak: dict[tuple[int, int], bool] = {}
    for time in {live[name][0] for name in buffers}:
        # Values that share a place, such as a loop's carry and its initial value, count once.
        is_gradient: dict[tuple[int, int], bool] = {}
        for name, (place, shape) in buffers.items():
            if live[name][0] <= time <= live[name][1]:
                is_gradient[place] = is_gradient.get(place, False) or _is_gradient(shape, weights)
        if sum(size for _, size in is_gradient) > sum(size for _, size in peak):
            peak = is_gradient
    gradients = sum(size for (_, size), gradient in peak.items() if gradient)
    return {"gradients": gradients, "activations": allocated - gradients}


def _buffers(assignment: str) -> tuple[int, dict[str, tuple[tuple[int, int], str]]]:
    """Bytes of all temporaries in HBM, and of each value in them: name -> ((offset, size), shape)."""
    for text in re.split(r"\n(?=allocation )", assignment):
        # The allocation of another memory space has a colour in its first line.
        head = re.match(r"allocation \d+: size (\d+), page 0, preallocated-temp", text)
        if head:
            values = re.finditer(
                r"value: <\d+ (\S+?)(\{.*?\})?(?: \(phi\))? @\d+> \(size=(\d+),offset=(\d+)\): (.*)", text
            )
            return int(head[1]), {m[1] + (m[2] or "{}"): ((int(m[4]), int(m[3])), m[5]) for m in values}
    return 0, {}


def _is_gradient(shape: str, weights: set[tuple[int, ...]]) -> bool:
    match = re.match(r"f32\[([\d,]+)\]", shape)
    if not match:
        return False
    dims = tuple(int(d) for d in match[1].split(","))
    return dims in weights or (dims[0] == 1 and dims[1:] in weights)
