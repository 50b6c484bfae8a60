//! Replicas and a store on a virtual clock.

mod names;
mod sim;
mod trials;
