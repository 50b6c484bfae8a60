//! Replicas and a store on a virtual clock.

mod merge;
mod names;
mod sim;
mod trials;
