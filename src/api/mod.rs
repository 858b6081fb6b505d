//! What people write. (Placeholder: the branch that owns `api` replaces this file.)

pub mod names;
pub mod stage;
