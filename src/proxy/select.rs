//! Which set takes a request, and what of it is hashed.

use std::net::IpAddr;

use super::next_hop::Hop;
use super::reason::Reason;
use super::request::Request;
use super::routes::Target;
use super::{CookieUse, Scratch, Selection, Way};
use crate::config::{HashKey, Policy};
use crate::sip::{self, Span, Uri, address};

impl Request<'_> {
    /// Lets the rules choose a set, and the set a destination.
    pub(super) fn select(
        &self,
        target: &Target,
        cookie_use: CookieUse,
        scratch: &mut Scratch,
    ) -> Result<Hop, Reason> {
        let bytes = self.message.bytes;
        let rules = &self.proxy.current.rules;
        let rule = rules.rule_for(self.method, bytes, &target.uri, self.datagram);
        let set = rule.map_or(0, |rule| rule.set);
        let chosen = &self.proxy.dispatcher().sets()[set];
        let definition = chosen.definition();
        let key = &mut scratch.octets;
        key.clear();
        self.write_key(&definition.hash_key, target, key);
        if definition.policy == Policy::Random {
            // Anew for each request of a dialog; its CANCEL and ACK share
            // the number.
            key.extend_from_slice(&self.message.cseq.number.to_be_bytes());
        }
        let hash = self.proxy.dispatcher().hash(key);
        let call_id = self.message.call_id.value.of(bytes);
        let destination = chosen
            .choose(set, hash, call_id, &mut scratch.turns)
            .ok_or(Reason::NoDestination)?;
        let to = definition.destinations[destination].address;
        let way = Way::Selected(Selection {
            set,
            hash,
            destination,
        });
        let hop = self.hop(way, to, None, cookie_use)?;
        Ok(Hop {
            record_route: rule.and_then(|rule| rule.record_route),
            ..hop
        })
    }

    /// Appends what the set hashes.
    #[inline]
    pub(super) fn write_key(&self, hash_key: &HashKey, target: &Target, key: &mut Vec<u8>) {
        let bytes = self.message.bytes;
        match hash_key {
            HashKey::CallId => key.extend_from_slice(self.message.call_id.value.of(bytes)),
            HashKey::FromUri => self.write_address_key(self.message.from.value, key),
            HashKey::ToUri => self.write_address_key(self.message.to.value, key),
            HashKey::RequestUri => self.write_uri_key(target.text, Some(target.uri), key),
            HashKey::Source => match self.datagram.source.ip() {
                IpAddr::V4(ip) => key.extend_from_slice(&ip.octets()),
                IpAddr::V6(ip) => key.extend_from_slice(&ip.octets()),
            },
            HashKey::Header(name) => {
                let (from, to) = (self.message.headers_start, self.message.headers_end);
                let row = sip::find_row(bytes, from as usize, to as usize, name.as_bytes());
                key.extend_from_slice(row.unwrap_or(self.message.call_id).value.of(bytes));
            }
        }
    }

    fn write_address_key(&self, value: Span, key: &mut Vec<u8>) {
        let bytes = self.message.bytes;
        // Validated before: a value that cannot be read was answered 400.
        if let Some(address) = address(bytes, value) {
            self.write_uri_key(address.uri, sip::uri(bytes, address.uri), key);
        }
    }

    /// user@host:port, the host in lower case, so that two ways to write one
    /// address of record (§19.1.4) meet one destination.
    fn write_uri_key(&self, text: Span, uri: Option<Uri>, key: &mut Vec<u8>) {
        let bytes = self.message.bytes;
        match uri.filter(|uri| !uri.host.is_empty()) {
            Some(uri) => {
                key.extend_from_slice(uri.user.of(bytes));
                key.extend_from_slice(b"@");
                for octet in uri.host.of(bytes) {
                    key.push(octet.to_ascii_lowercase());
                }
                key.extend_from_slice(&uri.port_or_default().to_be_bytes());
            }
            None => key.extend_from_slice(text.of(bytes)),
        }
    }
}
