//! `testbed up`: a control plane in the foreground, for the demo and for looking around.

fn main() {}
