//! What a picture shows, that it can be read, and that nothing in it does more than stand there.

mod content;
mod escaping;
mod geometry;
pub(super) mod random;
