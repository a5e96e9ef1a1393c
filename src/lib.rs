//! Viaduct: a stateless SIP load balancer for UDP.
pub mod config;
