//! `obleth check-config`.

use super::{Failure, say};
use crate::config::Config;

pub(super) fn run() -> Result<(), Failure> {
    let config = Config::from_process()?;
    for (name, value) in config.effective() {
        say(&format!("{name}={value}"));
    }
    for name in &config.unknown {
        say(&format!("# {name} is not known to this version and has no effect"));
    }
    Ok(())
}
