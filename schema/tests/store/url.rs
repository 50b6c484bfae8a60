//! Which addresses are taken, and that none gives its password away.

use obleth_schema::{DatabaseUrl, Store, StoreError, UrlError};

#[test]
fn an_address_names_a_file_or_a_server() {
    for (text, shared) in [
        ("sqlite://obleth.db", false),
        ("sqlite:///var/lib/obleth.db", false),
        ("postgres://u:p@h/d", true),
        ("postgresql://h:5432/d?sslmode=disable", true),
    ] {
        assert_eq!(text.parse::<DatabaseUrl>().unwrap().is_shared(), shared, "{text}");
    }
    for (text, error) in [
        ("", UrlError::Scheme),
        ("obleth.db", UrlError::Scheme),
        ("sqlite:obleth.db", UrlError::Scheme),
        ("mysql://u:p@h/d", UrlError::Scheme),
        ("sqlite://", UrlError::NoPath),
        ("sqlite://:memory:", UrlError::NotAFile),
        ("sqlite://file:x?mode=memory", UrlError::NotAFile),
        ("postgres://", UrlError::NoServer),
    ] {
        assert_eq!(text.parse::<DatabaseUrl>().unwrap_err(), error, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_text_carries_the_password() {
    // The last two are read as something else than meant: a piece of the password becomes an option.
    for text in [
        "postgres://user:hunter2@127.0.0.1:1/d",
        "postgres://127.0.0.1:1/d?user=u&password=hunter2",
        "postgres://user:x?hunter2=1@127.0.0.1:1/d",
        "postgres://user:x/hunter2@127.0.0.1:hunter2/d",
    ] {
        let url: DatabaseUrl = text.parse().unwrap();
        let store = Store::connect(&url).unwrap();
        let errors = [store.ping().await.unwrap_err(), store.migrate().await.unwrap_err()];
        assert!(errors.iter().all(|error| matches!(error, StoreError::Unavailable { .. })), "{errors:?}");
        let said = format!("{url} {url:?} {store:?} {errors:?} {} {}", errors[0], errors[1]);
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_said() {
    let store = Store::connect(&"sqlite:///nonexistent/obleth.db".parse().unwrap()).unwrap();
    let error = store.ping().await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
}

#[test]
fn a_store_needs_a_runtime() {
    let url = "sqlite://x.db".parse().unwrap();
    assert!(matches!(Store::connect(&url), Err(StoreError::Unavailable { .. })));
}
