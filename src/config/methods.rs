//! Methods as an operator writes them.

use super::diagnostic::{Fault, Report};
use super::table::Placed;
use super::text::is_token;
use crate::sip::Method;

/// Reads a method; its case is that of the wire.
pub fn method(text: &str) -> Result<String, Fault> {
    if is_token(text) {
        Ok(text.to_owned())
    } else {
        Err(Fault::new(format!("`{text}` is not a method")).help("write INVITE, REGISTER …"))
    }
}

/// Reads a method that can have a transaction of its own.
pub fn stateful_method(text: &str) -> Result<String, Fault> {
    for attached in ["ACK", "CANCEL"] {
        if text.eq_ignore_ascii_case(attached) {
            return Err(Fault::new(format!("{attached} has no choice of its own"))
                .why("it goes with the transaction of its request (RFC 3261 §9.2, §17.1.1.3)")
                .help("name the method of the request, INVITE"));
        }
    }
    method(text)
}

/// Warns of methods that an RFC defines and that are written in the wrong case,
/// and of what should stand for all: `all` says how they are had.
pub(super) fn notice_slips(methods: &[Placed<String>], all: &str, report: &mut Report) {
    for written in methods {
        let upper = written.value.to_ascii_uppercase();
        if ["*", "ALL", "ANY"].contains(&&*upper) {
            let fault = Fault::new(format!("no request has the method `{}`", written.value))
                .why("it does not stand for all methods");
            report.warning(&written.origin, fault.help(all));
        } else if upper != written.value && Method::of(upper.as_bytes()) != Method::Other {
            let fault = Fault::new(format!("no request has the method `{}`", written.value))
                .why("methods are case-sensitive (RFC 3261 §7.1)")
                .help(format!("write `{upper}`"));
            report.warning(&written.origin, fault);
        }
    }
}
