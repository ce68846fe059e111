//! The rivulet command: flags, configuration and wiring.
fn main() {}
