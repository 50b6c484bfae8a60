//! HTTP handlers: parse, call, render.

pub mod admin;
pub mod budgets;
pub mod data;
pub mod health;
pub mod limits;
pub mod models;
mod number;
pub mod root_span;
mod usage;
