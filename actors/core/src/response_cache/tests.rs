//! Tests of the keys, the wishes, and the leaders and followers.

mod bodies;
mod flights;
mod keys;
mod random_bodies;
mod wishes;
