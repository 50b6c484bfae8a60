mod lists;
mod messages;
mod names;
mod servers;
mod streams;
