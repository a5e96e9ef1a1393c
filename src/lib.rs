//! Viaduct: a SIP load balancer for UDP, stateless by default.
pub mod accounting;
pub mod cli;
pub mod config;
pub mod control;
pub mod demo;
pub mod dispatcher;
pub mod health;
pub mod mirror;
pub mod net;
pub mod proxy;
pub mod resolver;
pub mod sip;
pub mod supervisor;
pub mod transaction;
pub mod worker;
