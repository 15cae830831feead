import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard_core.errors import BadPayload, TooLarge
from callboard_core.lane import frames
from callboard_core.lane.frames import Decoder, Kind


def test_a_frame_is_its_length_its_kind_and_its_body():
    assert frames.encode(Kind.ANSWER, b"{}") == b"\x00\x00\x00\x02\x05{}"
    assert frames.encode(Kind.PING) == b"\x00\x00\x00\x00\x06"


def test_a_call_names_its_worker_before_the_envelope():
    frame = frames.encode_call(b"add", b'{"id":"1"}')
    assert frame == b"\x00\x00\x00\x0e\x04\x03add" + b'{"id":"1"}'
    [(kind, body)] = Decoder(frames.LIMIT).feed(frame)
    assert kind is Kind.CALL
    assert frames.read_call(body) == ("add", b'{"id":"1"}')


@given(
    st.lists(st.tuples(st.sampled_from(Kind), st.binary(max_size=200)), max_size=20),
    st.lists(st.integers(min_value=1, max_value=30), min_size=1),
)
def test_frames_come_out_as_they_went_in_however_they_are_cut(sent, cuts):
    raw = b"".join(frames.encode(kind, body) for kind, body in sent)
    decoder, found, position = Decoder(), [], 0
    for turn in range(len(raw) + 1):
        end = position + cuts[turn % len(cuts)]
        found += decoder.feed(raw[position:end])
        position = end
    assert found == sent


@given(st.lists(st.binary(max_size=64), max_size=10))
def test_garbage_is_refused_or_waited_on_and_never_anything_else(pieces):
    decoder = Decoder()
    try:
        for piece in pieces:
            for kind, body in decoder.feed(piece):
                assert kind in Kind
                assert len(body) <= frames.FIRST_LIMIT
    except (BadPayload, TooLarge):
        return


@given(st.binary(max_size=300))
def test_the_body_of_a_call_is_read_or_refused(body):
    try:
        worker, envelope = frames.read_call(body)
    except BadPayload:
        return
    assert body == bytes([len(worker)]) + worker.encode() + envelope
    assert envelope


@pytest.mark.parametrize("split", [False, True])
def test_a_frame_over_the_limit_is_refused_before_it_is_there(split):
    decoder = Decoder(limit=10)
    head = b"\x00\x00\x00\x0b\x05"
    with pytest.raises(TooLarge, match="11 bytes is over the limit of 10"):
        decoder.feed(head[:3]) if split else None
        decoder.feed(head[3:] if split else head)


@pytest.mark.parametrize("kind", [0, 10, 255])
def test_an_unknown_kind_is_refused(kind):
    with pytest.raises(BadPayload, match=f"no frame of kind {kind}"):
        Decoder().feed(b"\x00\x00\x00\x00" + bytes([kind]))


@pytest.mark.parametrize("body", [b"", b"\x00", b"\x03add", b"\x05add", b"\x01\xffx"])
def test_a_call_without_a_name_or_an_envelope_is_refused(body):
    with pytest.raises(BadPayload):
        frames.read_call(body)


def test_what_is_too_large_is_not_sent():
    with pytest.raises(TooLarge):
        frames.encode(Kind.ANSWER, bytes(frames.LIMIT + 1))
    with pytest.raises(TooLarge):
        frames.encode_call(b"x", bytes(frames.LIMIT))
