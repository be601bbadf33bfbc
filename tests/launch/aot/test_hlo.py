"""Communication and memory traffic of modules written by hand, where every number can be counted."""

import numpy as np
import pytest

from launch.aot import hlo

# A loop of 3 iterations on 4 devices as 2 x 2: a two-byte gather over the inner axis, asynchronous and therefore in
# three fusions; a sum of which only a slice is kept; and a sum over all devices after the loop.
TEXT = """HloModule step, is_scheduled=true

%scatter (p.1: bf16[8,16]) -> bf16[4,16] {
  %p.1 = bf16[8,16]{1,0:T(8,128)(2,1)} parameter(0)
  %sum.1 = bf16[8,16]{1,0:T(8,128)(2,1)} all-reduce(%p.1), channel_id=2, replica_groups={{0,2},{1,3}}, to_apply=%add
  %zero = u32[] constant(0)
  %own = bf16[8,16]{1,0} bitcast(%sum.1)
  ROOT %slice.1 = bf16[4,16]{1,0} dynamic-slice(%own, %zero, %zero), dynamic_slice_sizes={4,16}
}

%begin (p.2: bf16[8,16]) -> (bf16[8,16], bf16[16,16]) {
  %p.2 = bf16[8,16]{1,0} parameter(0)
  %gather.1 = bf16[16,16]{1,0} all-gather(%p.2), channel_id=1, replica_groups=[2,2]<=[4], dimensions={0}
  ROOT %t = (bf16[8,16]{1,0}, bf16[16,16]{1,0}) custom-call(%gather.1), custom_call_target="AsyncCollectiveStart"
}

%during (p.8: bf16[8,16], p.9: bf16[16,16]) -> (bf16[8,16], bf16[16,16], bf16[8,8]) {
  %p.8 = bf16[8,16]{1,0} parameter(0)
  %p.9 = bf16[16,16]{1,0} parameter(1)
  %gather.3 = bf16[16,16]{1,0} all-gather(%p.8), channel_id=1, replica_groups=[2,2]<=[4], dimensions={0}
  %square = bf16[8,8]{1,0} convolution(%p.8, %p.8), dim_labels=bf_oi->bf
  ROOT %tuple.1 = (bf16[8,16]{1,0}, bf16[16,16]{1,0}, bf16[8,8]{1,0}) tuple(%p.8, %p.9, %square)
}

%end (p.3: bf16[8,16], p.4: bf16[16,16]) -> bf16[16,16] {
  %p.3 = bf16[8,16]{1,0} parameter(0)
  %p.4 = bf16[16,16]{1,0} parameter(1)
  %gather.2 = bf16[16,16]{1,0} all-gather(%p.3), channel_id=1, replica_groups=[2,2]<=[4], dimensions={0}
  ROOT %done = bf16[16,16]{1,0} custom-call(%p.4, %gather.2), custom_call_target="AsyncCollectiveDone"
}

%layer (p.5: bf16[3,8,16], p.6: s32[]) -> bf16[8,16] {
  %p.5 = bf16[3,8,16]{2,1,0} parameter(0)
  %p.6 = s32[] parameter(1)
  %slice.2 = bf16[1,8,16]{2,1,0} dynamic-slice(%p.5, %p.6), dynamic_slice_sizes={1,8,16}
  ROOT %one = bf16[8,16]{1,0} bitcast(%slice.2)
}

%product (p.7: bf16[16,16]) -> bf16[16,16] {
  %p.7 = bf16[16,16]{1,0} parameter(0)
  ROOT %dot = bf16[16,16]{1,0} convolution(%p.7, %p.7), dim_labels=bf_io->bf
}

%body (state: (s32[], bf16[3,8,16])) -> (s32[], bf16[3,8,16]) {
  %state = (s32[], bf16[3,8,16]{2,1,0}) parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  %w = bf16[3,8,16]{2,1,0} get-tuple-element(%state), index=1
  %mine = bf16[8,16]{1,0} fusion(%w, %i), kind=kLoop, calls=%layer
  %start = (bf16[8,16]{1,0}, bf16[16,16]{1,0}) fusion(%mine), kind=kCustom, calls=%begin
  %from = bf16[8,16]{1,0} get-tuple-element(%start), index=0
  %into = bf16[16,16]{1,0} get-tuple-element(%start), index=1
  %work = (bf16[8,16]{1,0}, bf16[16,16]{1,0}, bf16[8,8]{1,0}) fusion(%from, %into), kind=kOutput, calls=%during
  %whole = bf16[16,16]{1,0:T(8,128)(2,1)S(1)} fusion(%from, %into), kind=kCustom, calls=%end
  %y = bf16[16,16]{1,0} fusion(%whole), kind=kOutput, calls=%product
  %part = bf16[4,16]{1,0} fusion(%mine), kind=kCustom, calls=%scatter
  ROOT %next = (s32[], bf16[3,8,16]{2,1,0}) tuple(%i, %w)
}

%condition (state.1: (s32[], bf16[3,8,16])) -> pred[] {
  %state.1 = (s32[], bf16[3,8,16]{2,1,0}) parameter(0)
  %three = s32[] constant(3)
  %j = s32[] get-tuple-element(%state.1), index=0
  ROOT %less = pred[] compare(%j, %three), direction=LT
}

ENTRY %main (a: (s32[], bf16[3,8,16]), b: f32[10]) -> f32[10] {
  %a = (s32[], bf16[3,8,16]{2,1,0}) parameter(0)
  %b = f32[10]{0} parameter(1)
  %loop = (s32[], bf16[3,8,16]{2,1,0}) while(%a), condition=%condition, body=%body
  %near = f32[10]{0:T(128)S(1)} negate(%b)
  ROOT %norm = f32[10]{0} all-reduce(%near), channel_id=3, replica_groups=mesh['x'=2,'y'=2] {'x','y'}, to_apply=%add
}
"""
MESH = {"data": 2, "model": 2}


def test_collectives_are_counted_once_for_each_iteration_of_the_loop():
    rows = hlo.collectives(hlo.Module(TEXT).sites(), MESH)
    half = 8 * 16 * 2
    assert rows == [
        {"kind": "all-gather", "axes": ["model"], "overlapped": True, "count": 3, "bytes": 3 * half},
        {"kind": "reduce-scatter", "axes": ["data"], "overlapped": False, "count": 3, "bytes": 3 * half / 2},
        {"kind": "all-reduce", "axes": ["data", "model"], "overlapped": False, "count": 1, "bytes": 2 * 40 * 3 / 4},
    ]


def test_memory_traffic_counts_what_is_used():
    """A layer's slice and not the stack; nothing for what is passed through, is on the chip, or is read to be sent."""
    module = hlo.Module(TEXT)
    layer, index, gathered, part = 8 * 16 * 2, 4, 16 * 16 * 2, 4 * 16 * 2
    sliced = index + layer + layer
    overlapped, product, scattered = layer + 8 * 8 * 2, gathered, part  # the gathered array is on the chip
    moved = hlo.traffic(module, module.sites())
    negated, summed = 40, 40
    total = 3 * (sliced + overlapped + product + scattered) + negated + summed
    assert moved == {"all": total, "vector": 3 * sliced + 40}


def test_what_crosses_slices_goes_through_the_hosts():
    text = """
ENTRY %main (a: bf16[32]) -> bf16[32] {
  %a = bf16[32]{0} parameter(0)
  %begin = token[] after-all()
  %send = (bf16[32]{0}, u32[]{:S(2)}, token[]) send(%a, %begin), channel_id=3, is_host_transfer=true, \
frontend_attributes={_xla_host_transfer_handler_name="xla_megascale_runtime",_xla_megascale_transfer_type="ALL_REDUCE"}
}
"""
    rows = hlo.collectives(hlo.Module(text).sites(), MESH, slices=4)
    assert rows == [{"kind": "all-reduce", "axes": ["slices"], "overlapped": True, "count": 1, "bytes": 2 * 64 * 3 / 4}]


@pytest.mark.parametrize(
    ("form", "axes", "members"),
    [
        ("replica_groups={{0,1,2,3},{4,5,6,7}}", ("b", "c"), 4),
        ("replica_groups={{0,4},{1,5},{2,6},{3,7}}", ("a",), 2),
        ("replica_groups=[4,2]<=[8]", ("c",), 2),
        ("replica_groups=[4,2]<=[2,4]T(1,0)", ("a",), 2),
        ("replica_groups=[4,2]<=[2,2,2]T(0,2,1)", ("b",), 2),
        ("replica_groups=[2,4]<=[2,2,2]T(1,0,2)", ("a", "c"), 4),
        ("replica_groups=mesh['axis_0'=2,'axis_1'=4] {'axis_1'}", ("b", "c"), 4),
        ("replica_groups=mesh['axis_0'=2,'axis_1'=2,'axis_2'=2] {'axis_2','axis_0'}", ("a", "c"), 4),
        ("replica_groups={}", ("a", "b", "c"), 8),
        ("source_target_pairs={{0,1},{1,0},{2,3},{3,2}}", ("c",), 2),
        ("source_target_pairs={{0,0},{1,3}}", ("b",), 2),
    ],
)
def test_groups_are_read_in_all_their_forms(form, axes, members):
    op = hlo._parse_op(f"  %x = f32[8]{{0}} all-reduce(%y), channel_id=1, {form}, use_global_device_ids=true")
    assert hlo._axes(op, {"a": 2, "b": 2, "c": 2}) == (axes, members)


def test_every_group_partitions_the_devices():
    for form in ("[2,4]<=[2,2,2]T(1,0,2)", "mesh['u'=2,'v'=2,'w'=2] {'v'}"):
        groups = hlo._groups(f"replica_groups={form}, x=1", 8)
        assert np.array_equal(np.sort(groups.ravel()), np.arange(8))


def test_a_loop_of_unknown_length_is_refused():
    text = TEXT.replace("%three = s32[] constant(3)", "%three = s32[] copy(%j)")
    with pytest.raises(ValueError, match="loop loop: its condition does not say how often it runs"):
        hlo.Module(text).sites()


@pytest.mark.parametrize(
    ("shape", "arrays"),
    [
        ("f32[2,3]{1,0}", [(24, True)]),
        ("(bf16[4]{0:T(8,128)(2,1)S(1)}, pred[5]{0}, s32[])", [(8, False), (5, True), (4, True)]),
        ("f8e4m3fn[16]{0}", [(16, True)]),
        ("token[]", [(0, True)]),
    ],
)
def test_sizes(shape, arrays):
    assert hlo.sizes(shape) == arrays
