use super::*;
use proptest::prelude::*;

/// An event as it was seen, owned.
type Seen = (Vec<u8>, Vec<u8>, Option<Vec<u8>>, bool);

/// Feeds `chunks`, applies `verdict` to each event, releases at the end.
fn run(chunks: &[&[u8]], mut verdict: impl FnMut(&Event<'_>) -> Verdict) -> (Vec<Seen>, Vec<Bytes>) {
    let mut splitter = Splitter::new();
    let mut seen = Vec::new();
    let mut out = Vec::new();
    let mut on_event = |event: &Event<'_>| {
        let tail = event.tail.map(<[u8]>::to_vec);
        seen.push((event.name.to_vec(), event.data.to_vec(), tail, event.complete));
        verdict(event)
    };
    for chunk in chunks {
        splitter.feed(Bytes::copy_from_slice(chunk), &mut out, &mut on_event);
    }
    splitter.finish(&mut out, &mut on_event);
    (seen, out)
}

fn pass(_: &Event<'_>) -> Verdict {
    Verdict::Pass
}

fn events(stream: &str) -> Vec<(String, String)> {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    run(&[stream.as_bytes()], pass).0.into_iter().map(|(name, data, ..)| (text(name), text(data))).collect()
}

fn pair(name: &str, data: &str) -> (String, String) {
    (name.to_owned(), data.to_owned())
}

#[test]
fn events_are_read_as_the_grammar_has_them() {
    assert_eq!(events("data: a\n\ndata: b\n\n"), [pair("", "a"), pair("", "b")]);
    assert_eq!(events("event: x\r\ndata: a\r\n\r\ndata:b\r\r"), [pair("x", "a"), pair("", "b")]);
    assert_eq!(events("\u{feff}data: a\n\n"), [pair("", "a")]);
    assert_eq!(events("data: a\ndata:  b\ndata\n\n"), [pair("", "a\n b\n")]);
    assert_eq!(events(": ping\n\n\n\nid: 1\nretry: 5\nevent: e\n\ndatax: 1\n\ndata: é\n\n"), [pair("", "é")]);
    assert_eq!(events("data\n\n"), [pair("", "")]);
    assert_eq!(events("data: a\n\n\u{feff}data: b\n\n"), [pair("", "a")]);
}

#[test]
fn what_the_stream_ends_with_is_shown_as_incomplete() {
    let (seen, out) = run(&[b"data: a\n\ndata: [DO", b"NE]\n"], pass);
    assert_eq!(seen[1], (Vec::new(), b"[DONE]".to_vec(), None, false));
    assert_eq!(out.concat(), b"data: a\n\ndata: [DONE]\n");
}

#[test]
fn complete_events_leave_as_one_slice_of_their_chunk() {
    let chunk = Bytes::from_static(b"data: a\n\ndata: b\n\n: c\n\ndata: par");
    let (mut splitter, mut out) = (Splitter::new(), Vec::new());
    splitter.feed(chunk.clone(), &mut out, &mut pass);
    assert_eq!(out, [chunk.slice(..23)]);
    assert_eq!(out[0].as_ptr(), chunk.as_ptr());
    splitter.feed(Bytes::from_static(b"tial\n\ndata: d\n\n"), &mut out, &mut pass);
    assert_eq!(out[1..], [Bytes::from_static(b"data: partial\n\n"), Bytes::from_static(b"data: d\n\n")]);
}

#[test]
fn a_dropped_event_leaves_nothing_behind() {
    let drop_b = |event: &Event<'_>| if &*event.data == b"b" { Verdict::Drop } else { Verdict::Pass };
    for line_end in ["\n", "\r\n", "\r"] {
        let stream = "data: a\n\ndata: b\n\ndata: c\n\n".replace('\n', line_end);
        for cut in 0..stream.len() {
            let (left, right) = stream.as_bytes().split_at(cut);
            let (_, out) = run(&[left, right], drop_b);
            let expected = "data: a\n\ndata: c\n\n".replace('\n', line_end);
            assert_eq!(out.concat(), expected.as_bytes(), "{line_end:?} {cut}");
        }
    }
}

#[test]
fn an_event_apart_is_a_piece_of_its_own() {
    let apart = |event: &Event<'_>| if &*event.data == b"b" { Verdict::Apart } else { Verdict::Pass };
    for line_end in ["\n", "\r\n", "\r"] {
        let stream = "data: a\n\ndata: b\n\ndata: c\n\n".replace('\n', line_end);
        for cut in 0..stream.len() {
            let (left, right) = stream.as_bytes().split_at(cut);
            let (mut splitter, mut all, mut rest) = (Splitter::new(), Vec::new(), Vec::new());
            for chunk in [left, right] {
                let mut out = Vec::new();
                splitter.feed(Bytes::copy_from_slice(chunk), &mut out, &mut { apart });
                let marked = splitter.take_apart();
                all.extend(out.iter().cloned());
                let kept = out.into_iter().enumerate().filter(|(at, _)| !marked.contains(at));
                rest.extend(kept.map(|(_, piece)| piece));
            }
            assert_eq!(all.concat(), stream.as_bytes(), "{line_end:?} {cut}");
            // The LF of a CR LF that was torn apart is an empty line, which no reader sees.
            let expected = "data: a\n\ndata: c\n\n".replace('\n', line_end);
            let rest = String::from_utf8(rest.concat()).unwrap();
            let torn = expected.replace("data: c", "\ndata: c");
            assert!(rest == expected || (line_end == "\r\n" && rest == torn), "{line_end:?} {cut} {rest:?}");
        }
    }
}

#[test]
fn a_held_event_keeps_all_that_follows_until_released() {
    let (mut splitter, mut out) = (Splitter::new(), Vec::new());
    let mut hold = |event: &Event<'_>| if &*event.data == b"b" { Verdict::Hold } else { Verdict::Pass };
    splitter.feed(Bytes::from_static(b"data: a\n\ndata: b\n\ndata: c\n\n"), &mut out, &mut hold);
    assert_eq!(out.concat(), b"data: a\n\n");
    splitter.feed(Bytes::from_static(b"data: d\n\n"), &mut out, &mut hold);
    assert_eq!((out.concat().len(), splitter.held_bytes()), (9, 27));
    splitter.release(&mut out);
    assert_eq!(out.concat(), b"data: a\n\ndata: b\n\ndata: c\n\ndata: d\n\n");
    splitter.feed(Bytes::from_static(b"data: e\n\n"), &mut out, &mut hold);
    assert_eq!(out.last().unwrap(), "data: e\n\n");
}

#[test]
fn an_event_too_long_passes_as_it_comes() {
    let (mut splitter, mut out) = (Splitter::new(), Vec::new());
    let mut shown = 0;
    let mut hold = |event: &Event<'_>| {
        shown += 1;
        assert_eq!((event.name, event.tail.map(<[u8]>::len)), (&b"big"[..], Some(TAIL)));
        Verdict::Hold
    };
    splitter.feed(
        Bytes::from(format!("event: big\ndata: {}", "x".repeat(EVENT_MAX - 17))),
        &mut out,
        &mut hold,
    );
    assert!(out.is_empty() && !splitter.is_mid_event());
    splitter.feed(Bytes::from_static(b"y"), &mut out, &mut hold);
    assert_eq!(out.concat().len(), EVENT_MAX + 1);
    assert!(splitter.is_mid_event());
    splitter.feed(Bytes::from_static(b"z\r\n\r\n"), &mut out, &mut hold);
    assert_eq!((out.concat().len(), splitter.held_bytes()), (EVENT_MAX + 4, 2));
    assert!(!splitter.is_mid_event());
    splitter.release(&mut out);
    assert!(out.concat().ends_with(b"yz\r\n\r\n"));
    assert_eq!(shown, 1);
}

fn streams() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        8 => prop::sample::select(vec![
            "data: ", "data:", "data", "event: x", ": c", "\n", "\r", "\r\n", "\n\n", "\r\n\r\n", "b", "é", "[DONE]", "\u{feff}",
        ])
        .prop_map(|piece| piece.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..6),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// `stream` cut at the given places.
fn cut<'a>(stream: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
    places.extend([0, stream.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect()
}

proptest! {
    #[test]
    fn the_output_is_the_input_and_the_chunking_does_not_matter(
        stream in streams(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let (seen, out) = run(&cut(&stream, &cuts), pass);
        prop_assert_eq!(out.concat(), stream.clone());
        let (whole, _) = run(&[&stream], pass);
        prop_assert_eq!(&seen, &whole);
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        prop_assert_eq!(&run(&bytes, pass).0, &whole);
    }

    #[test]
    fn drops_and_holds_do_not_depend_on_the_chunking(
        stream in streams(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let verdict = |event: &Event<'_>| match event.data.last() {
            Some(b'b') => Verdict::Drop,
            Some(b']') => Verdict::Hold,
            _ => Verdict::Pass,
        };
        let (whole, expected) = run(&[&stream], verdict);
        let (seen, out) = run(&cut(&stream, &cuts), verdict);
        prop_assert_eq!(out.concat(), expected.concat());
        prop_assert_eq!(seen, whole);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn long_events_do_not_depend_on_the_chunking_either(
        before in streams(),
        len in EVENT_MAX - 40..EVENT_MAX + 40,
        end in prop::sample::select(vec!["\n\n", "\r\n\r\n", "\r\r", ""]),
        after in streams(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        near in prop::collection::vec(0_usize..8, 0..3),
        hold in any::<bool>(),
    ) {
        let verdict = |_: &Event<'_>| if hold { Verdict::Hold } else { Verdict::Pass };
        let stream = [&before[..], b"\n\ndata: ", "x".repeat(len).as_bytes(), end.as_bytes(), &after].concat();
        let (whole, _) = run(&[&stream], verdict);
        let mut chunks = Vec::new();
        for chunk in cut(&stream, &cuts) {
            let at = near.first().map_or(0, |n| chunk.len().saturating_sub(*n));
            let (left, right) = chunk.split_at(at);
            chunks.extend([left, right]);
        }
        let (seen, out) = run(&chunks, verdict);
        prop_assert_eq!(out.concat(), stream.clone());
        prop_assert!(seen == whole);
        // Cut around the end of the long event.
        let edge = before.len() + 8 + len;
        for at in edge..(edge + 5).min(stream.len()) {
            let (left, right) = stream.split_at(at);
            let (seen, out) = run(&[left, right], verdict);
            prop_assert!(out.concat() == stream && seen == whole, "cut at {}", at);
        }
    }
}
