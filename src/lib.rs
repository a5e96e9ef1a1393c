//! Viaduct: a stateless SIP load balancer for UDP.
pub mod cli;
pub mod config;
