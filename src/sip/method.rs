//! Methods by name (RFC 3261 §7.1).

use strum::{IntoStaticStr, VariantArray};

/// A method that an RFC defines, or another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "UPPERCASE")]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are those of the wire")]
pub enum Method {
    Invite,
    Ack,
    Bye,
    Cancel,
    Register,
    Options,
    Prack,
    Subscribe,
    Notify,
    Publish,
    Info,
    Refer,
    Message,
    Update,
    /// One that no RFC defines; it passes too (§16.3 item 1).
    #[strum(serialize = "other")]
    Other,
}

impl Method {
    /// All, in the order of their numbers.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The method with these octets. Case matters.
    #[inline]
    #[must_use]
    pub fn of(octets: &[u8]) -> Self {
        match octets {
            b"INVITE" => Self::Invite,
            b"ACK" => Self::Ack,
            b"BYE" => Self::Bye,
            b"CANCEL" => Self::Cancel,
            b"REGISTER" => Self::Register,
            b"OPTIONS" => Self::Options,
            b"PRACK" => Self::Prack,
            b"SUBSCRIBE" => Self::Subscribe,
            b"NOTIFY" => Self::Notify,
            b"PUBLISH" => Self::Publish,
            b"INFO" => Self::Info,
            b"REFER" => Self::Refer,
            b"MESSAGE" => Self::Message,
            b"UPDATE" => Self::Update,
            _ => Self::Other,
        }
    }

    /// How it is written; `other` for all that no RFC defines.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_method_is_known_by_its_name_and_its_place() {
        for (number, &method) in Method::ALL.iter().enumerate() {
            assert_eq!(Method::of(method.name().as_bytes()), method);
            assert_eq!(method as usize, number);
        }
        assert_eq!(Method::of(b"invite"), Method::Other);
        assert_eq!(Method::Other.name(), "other");
    }
}
