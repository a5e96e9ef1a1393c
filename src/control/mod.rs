//! What an operator sees and changes while it runs.

pub mod metrics;
