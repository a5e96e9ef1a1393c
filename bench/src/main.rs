//! Load generator, bare forwarders and micro benches for Viaduct.
fn main() {}
