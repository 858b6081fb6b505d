//! The controller.

pub mod evidence;
