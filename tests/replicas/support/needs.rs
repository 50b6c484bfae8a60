//! What a test cannot do without.

use std::path::Path;

/// A service or a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The server of `OBLETH_TEST_POSTGRES_URL`.
    Postgres,
    /// PostgreSQL's programs, to start a server of the test's own.
    PrivatePostgres,
    /// The program `redis-server`.
    Redis,
    /// The programs `haproxy` and `openssl`.
    HaProxy,
}

/// Whether all of these are there. If not, says SKIPPED, or panics with `OBLETH_TEST_REQUIRE=all`.
pub fn have(needs: &[Need]) -> bool {
    let Some(lacking) = needs.iter().find_map(|need| need.lacking()) else { return true };
    let required = std::env::var("OBLETH_TEST_REQUIRE").is_ok_and(|what| what == "all");
    assert!(!required, "OBLETH_TEST_REQUIRE=all, but {lacking}");
    println!("SKIPPED: {lacking}");
    false
}

impl Need {
    fn lacking(self) -> Option<&'static str> {
        let (is_there, lacking) = match self {
            Self::Postgres => {
                (std::env::var_os("OBLETH_TEST_POSTGRES_URL").is_some(), "OBLETH_TEST_POSTGRES_URL is unset")
            }
            Self::PrivatePostgres => {
                let is_there = has("initdb") || Path::new("/usr/lib/postgresql").is_dir();
                (is_there, "PostgreSQL is not installed")
            }
            Self::Redis => (has("redis-server"), "redis-server is not installed"),
            Self::HaProxy => (has("haproxy") && has("openssl"), "haproxy or openssl is not installed"),
        };
        (!is_there).then_some(lacking)
    }
}

/// Whether a program is on the path, or where distributions put servers.
fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain(["/usr/sbin".into()]).any(|folder| folder.join(program).is_file())
}
