//! Which replica this is: the one whose journal it has.
//!
//! What a replica may have used but not told anybody lies in its journal. So its name lies there too: one that is started
//! again with the same folder is the same replica, and takes up the claims that it had.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use uuid::Uuid;

/// The file with the name.
const FILE: &str = "replica";

/// The name of the replica whose journal is in `folder`, made for the first process on it. The folder must be locked.
pub fn replica_of(folder: &Path) -> io::Result<String> {
    let path = folder.join(FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) if Uuid::parse_str(text.trim()).is_ok() => return Ok(text.trim().to_owned()),
        // Cut off while it was written, for the first time.
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let name = Uuid::new_v4().to_string();
    let temporary = folder.join("replica.new");
    let mut file = File::create(&temporary)?;
    file.write_all(name.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&temporary, &path)?;
    Ok(name)
}

/// The file with the names of the others.
const OTHERS: &str = "replicas";

/// Whom the replica with this journal knew last: they may hold what Redis has forgotten.
pub(crate) fn known_in(folder: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(folder.join(OTHERS)).unwrap_or_default();
    text.lines().filter(|name| Uuid::parse_str(name).is_ok()).map(str::to_owned).collect()
}

/// Keeps them.
pub(crate) fn keep_known(folder: &Path, names: &[String]) -> io::Result<()> {
    let temporary = folder.join("replicas.new");
    std::fs::write(&temporary, names.join("\n"))?;
    std::fs::rename(&temporary, folder.join(OTHERS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_keeps_the_name_of_its_replica() {
        let folder = tempfile::tempdir().unwrap();
        let name = replica_of(folder.path()).unwrap();
        assert_eq!(replica_of(folder.path()).unwrap(), name);
        assert_eq!(known_in(folder.path()), [""; 0]);
        let others = [name.clone(), Uuid::new_v4().to_string()];
        keep_known(folder.path(), &others).unwrap();
        assert_eq!(known_in(folder.path()), others);
        std::fs::write(folder.path().join(FILE), "half a na").unwrap();
        assert_ne!(replica_of(folder.path()).unwrap(), name);
    }
}
