use super::*;

#[test]
fn every_path_of_the_contract_is_a_route_and_gives_itself_back() {
    let fixed = [
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/responses",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/v1/rerank",
        "/v1/score",
        "/v1/moderations",
    ];
    for path in fixed {
        let route = Route::of(path).unwrap();
        assert_eq!((&*route.path(), route.label()), (path, path));
    }
    for (path, label) in [
        ("/v1/audio/speech", "/v1/audio/*"),
        ("/v1/audio/transcriptions", "/v1/audio/*"),
        ("/v1/images/generations", "/v1/images/*"),
        ("/v1/images/a-b_9", "/v1/images/*"),
    ] {
        let route = Route::of(path).unwrap();
        assert_eq!((&*route.path(), route.label()), (path, label));
    }
}

#[test]
fn a_path_that_is_not_exactly_a_route_is_none() {
    let long = format!("/v1/audio/{}", "a".repeat(65));
    for path in [
        "",
        "/",
        "/v1",
        "/v1/",
        "/v1/chat/completions/",
        "//v1/chat/completions",
        "/v1//chat/completions",
        "/v1/chat/../chat/completions",
        "/v1/chat%2Fcompletions",
        "/V1/chat/completions",
        "/v1/chat\\completions",
        "/v1/chat/completions?x=1",
        "/v1/audio",
        "/v1/audio/",
        "/v1/audio/..",
        "/v1/audio/.",
        "/v1/audio/a/b",
        "/v1/audio/a/",
        "/v1/audio/Speech",
        "/v1/audio/a%20b",
        "/v1/images/a b",
        "/v1/images/é",
        "/v1/models",
        &long,
    ] {
        assert_eq!(Route::of(path), None, "{path}");
    }
    assert!(Route::of(long.strip_suffix('a').unwrap()).is_some());
}

#[test]
fn the_bound_to_insert_is_one_the_route_reads() {
    for path in ["/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/responses"] {
        let route = Route::of(path).unwrap();
        assert!(route.generates());
        assert!(route.output_fields().iter().all(|field| route.reads().has(*field)));
        assert!(!route.output_fields().is_empty());
    }
}

#[test]
fn every_field_has_a_bit_of_its_own() {
    let mut seen = crate::wire::field::FieldSet::default();
    for field in Field::ALL {
        assert!(seen.insert(*field), "{field:?}");
        assert_eq!(Field::of(field.name()), Some(*field));
    }
}
