"""Peak live memory from a dump written by hand: 4,000 bytes allocated, 3,010 live at once."""

from launch.aot import peak_memory

ASSIGNMENT = """BufferAssignment:
allocation 0: size 4096, page 0, parameter 3, shape |f32[8,16]| at ShapeIndex {}, maybe-live-out:
 value: <1 param.3 @0> (size=4096,offset=0): f32[8,16]{1,0:T(8,128)}
allocation 1: size 4000, page 0, preallocated-temp:
 value: <2 early @0> (size=2500,offset=0): bf16[4,99]{1,0:T(8,128)}
 value: <3 while.1{2} @0> (size=1000,offset=0): bf16[4,99]{1,0:T(8,128)}
 value: <4 wide.param{2} (phi) @0> (size=1000,offset=0): bf16[4,99]{1,0:T(8,128)}
 value: <5 gradient{} @0> (size=1500,offset=1000): f32[1,64,16]{2,1,0:T(8,128)}
 value: <6 gathered @0> (size=500,offset=2500): bf16[64,16]{1,0:T(8,128)}
 value: <7 other @0> (size=10,offset=3000): (f32[64,16]{1,0}, s32[])
allocation 2: size 9000, color 1, page 0, preallocated-temp:
 value: <8 vector @1> (size=9000,offset=0): f32[64,16]{1,0:T(8,128)S(1)}
"""
RANGES = """HloLiveRange (max 40):
  InstructionSequence:
    0:early
  BufferLiveRange:
    early{}:0-3
    while.1{2}:4-9
    wide.param{2}:4-20
    gradient{}:5-20
    gathered{}:6-8
    other{}:7-7
    vector{}:0-40
    param.3{}:0-40
  Live ranges at 2 (peak):
    early{}: 2500 bytes (cumulative: 2500 bytes)
"""


def test_the_peak_is_split():
    """At 7: the carry of a loop and its initial value share a place; gathered weights count as activations."""
    assert peak_memory.temporaries(ASSIGNMENT, RANGES, {(64, 16)}) == {"gradients": 1500, "activations": 2500}
    assert peak_memory.temporaries(ASSIGNMENT, RANGES, {(1, 64, 16)}) == {"gradients": 1500, "activations": 2500}
    assert peak_memory.temporaries(ASSIGNMENT, RANGES, set()) == {"gradients": 0, "activations": 4000}


def test_a_step_without_temporaries():
    assert peak_memory.temporaries("BufferAssignment:\n", RANGES, {(64, 16)}) == {"gradients": 0, "activations": 0}
