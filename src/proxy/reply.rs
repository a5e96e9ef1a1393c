//! Local replies as a stateless UAS makes them (RFC 3261 §8.2.6, §8.2.7): the
//! headers that must be there and nothing else, so that nobody gets more
//! octets out of us than they put in, but for those few.

use super::reason::Status;
use super::repair::Repairs;
use crate::sip::{Header, Message, address};

/// Writes the reply to `message` into `out` and returns its length.
///
/// `tag` is asked for what To gets. `None` where the request lacks a header that
/// the reply must copy, where one holds a control character, or where `out` is
/// too small.
pub(super) fn write(
    message: &Message<'_>,
    status: Status,
    tag: impl FnOnce() -> [u8; 16],
    repairs: &Repairs,
    out: &mut [u8],
) -> Option<usize> {
    let bytes = message.bytes;
    let mut out = Writer { out, length: 0 };
    out.put(&[b"SIP/2.0 ", status.text().as_bytes(), b"\r\n"])?;
    let top = message.via?;
    let copied = [Header::From, Header::To, Header::CallId, Header::CSeq];
    if !copied.into_iter().all(|header| message.has(header)) {
        return None;
    }
    repairs.row(bytes, top, |pieces| out.put(&pieces))?;
    for row in message.rows_from(message.next_via, b"Via") {
        out.put(&[row.line.of(bytes)])?;
    }
    out.put(&[message.from.line.of(bytes)])?;
    if status == Status::Trying {
        // §8.2.6.1, §8.2.6.2: no tag of ours, and the sender's Timestamp.
        out.put(&[message.to.line.of(bytes)])?;
        if message.has(Header::Timestamp)
            && let Some(row) = message.rows_named(b"Timestamp").next()
        {
            out.put(&[row.line.of(bytes)])?;
        }
    } else {
        put_to(message, &tag(), &mut out)?;
    }
    out.put(&[
        message.call_id.line.of(bytes),
        message.cseq.row.line.of(bytes),
    ])?;
    if status == Status::BadExtension {
        put_unsupported(message, &mut out)?;
    }
    out.put(&[b"Content-Length: 0\r\n\r\n"])?;
    out.is_sound().then_some(out.length)
}

/// Where in a reply with `status` the value of the topmost Via starts.
pub(super) fn via_value(message: &Message<'_>, status: Status) -> usize {
    let top = message.via.unwrap_or_default();
    let before = "SIP/2.0 ".len() + status.text().len() + "\r\n".len();
    before + (top.value.start - top.line.start) as usize
}

/// To, with our tag where it has none (§8.2.6.2); as it came where it cannot be
/// read, so that nobody finds two.
fn put_to(message: &Message<'_>, tag: &[u8; 16], out: &mut Writer<'_>) -> Option<()> {
    let bytes = message.bytes;
    let row = message.to;
    let untagged = address(bytes, row.value).is_some_and(|to| to.tag.is_empty());
    if !untagged {
        return out.put(&[row.line.of(bytes)]);
    }
    let value_end = row.value.end as usize;
    let name_and_value = &bytes[row.line.start as usize..value_end];
    let line_end = &bytes[value_end..row.line.end as usize];
    out.put(&[name_and_value, b";tag=", tag, line_end])
}

/// §8.2.2.3: Unsupported lists what was required; of it all, we do none.
fn put_unsupported(message: &Message<'_>, out: &mut Writer<'_>) -> Option<()> {
    message
        .rows_named(b"Proxy-Require")
        .try_for_each(|row| out.put(&[b"Unsupported: ", row.value.of(message.bytes), b"\r\n"]))
}

/// What is appended to a buffer.
pub(super) struct Writer<'a> {
    pub(super) out: &'a mut [u8],
    pub(super) length: usize,
}

impl Writer<'_> {
    /// Appends; `None` where there is no room.
    pub(super) fn put(&mut self, parts: &[&[u8]]) -> Option<()> {
        for part in parts {
            let end = self.length + part.len();
            self.out.get_mut(self.length..end)?.copy_from_slice(part);
            self.length = end;
        }
        Some(())
    }

    /// Whether there are no control characters in it, for some of it comes from
    /// the request. It looks at all octets, so that the compiler can take many at
    /// a time.
    fn is_sound(&self) -> bool {
        let foreign = |b: u8| b.is_ascii_control() & (b != b'\t') & (b != b'\r') & (b != b'\n');
        let octets = self.out[..self.length].iter();
        !octets.fold(false, |found, b| found | foreign(*b))
    }
}
