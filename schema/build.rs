//! `embed_migrations!` reads the SQL at compile time; cargo must know the folders it reads.
fn main() {
    println!("cargo::rerun-if-changed=../migrations");
}
