//! Edits to a datagram: what is cut and what is put in its place. All other
//! octets are kept by construction.

use super::{MAX_DATAGRAM, Span};

/// Edits that one message can need: our own Via and Record-Route, two of
/// parameters of the top Via, Max-Forwards, the Request-URI, and the Route values
/// we remove or, for a strict router, move: two of ours, its own, 26 more and,
/// of a strict router before us, the target.
const MAX_EDITS: usize = 36;

/// Octets that one message can need put in: our Via and two Record-Routes with
/// the longest host names (255), `received`, `rport`, Max-Forwards; for a strict
/// router the Route values that stay.
const MAX_NEW: usize = 2048;

#[derive(Clone, Copy, Default)]
struct Edit {
    /// What of the datagram is left out.
    cut: Span,
    /// What stands there instead, in `Rewrite::new`.
    put: Span,
}

/// A list of edits in the order of the datagram.
///
/// Made once and reused: it is working memory, cleared for each message.
pub struct Rewrite {
    edits: [Edit; MAX_EDITS],
    len: usize,
    new: [u8; MAX_NEW],
    new_len: usize,
}

/// A message wants more edits than a proxy has a reason for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyEdits;

impl Default for Rewrite {
    fn default() -> Self {
        Self {
            edits: [Edit::default(); MAX_EDITS],
            len: 0,
            new: [0; MAX_NEW],
            new_len: 0,
        }
    }
}

impl Rewrite {
    /// Forgets all edits.
    pub fn clear(&mut self) {
        self.len = 0;
        self.new_len = 0;
    }

    /// Leaves `span` out. Spans of different edits must not overlap.
    ///
    /// # Errors
    /// [`TooManyEdits`].
    pub fn cut(&mut self, span: Span) -> Result<(), TooManyEdits> {
        self.replace(span, &[])
    }

    /// Puts `parts`, one behind the other, in the place of `span`. An empty
    /// span inserts, before what another edit takes from there on. Of two
    /// insertions at one offset the first made stands first.
    ///
    /// # Errors
    /// [`TooManyEdits`].
    #[inline]
    pub fn replace(&mut self, span: Span, parts: &[&[u8]]) -> Result<(), TooManyEdits> {
        let start = self.new_len;
        for part in parts {
            let end = self.new_len + part.len();
            self.new
                .get_mut(self.new_len..end)
                .ok_or(TooManyEdits)?
                .copy_from_slice(part);
            self.new_len = end;
        }
        self.note(span, start)
    }

    /// Puts as many octets in the place of `span` as `write` says to have
    /// written, for which it gets room for `N`: what is made up of small pieces is
    /// not copied once more, which would be a store-forwarding stall.
    ///
    /// # Errors
    /// [`TooManyEdits`].
    #[inline]
    pub fn replace_with<const N: usize>(
        &mut self,
        span: Span,
        write: impl FnOnce(&mut [u8; N]) -> usize,
    ) -> Result<(), TooManyEdits> {
        let start = self.new_len;
        let room = self.new[start..].first_chunk_mut().ok_or(TooManyEdits)?;
        let length = write(room);
        debug_assert!(length <= N, "more than there is room for");
        self.new_len += length;
        self.note(span, start)
    }

    /// Notes that what is new from `start` on stands in the place of `span`.
    fn note(&mut self, span: Span, start: usize) -> Result<(), TooManyEdits> {
        if self.len == MAX_EDITS {
            return Err(TooManyEdits);
        }
        // Edits come nearly in order: the headers they touch mostly do.
        let mut at = self.len;
        let goes_behind = |edit: &Edit| {
            edit.cut.start > span.start
                || (edit.cut.start == span.start && span.is_empty() && !edit.cut.is_empty())
        };
        while at > 0 && goes_behind(&self.edits[at - 1]) {
            self.edits[at] = self.edits[at - 1];
            at -= 1;
        }
        self.edits[at] = Edit {
            cut: span,
            put: Span::new(start, self.new_len),
        };
        self.len += 1;
        Ok(())
    }

    /// Where in the result the octet at `offset` stands, or what was put in
    /// there. No edit may cut that octet.
    #[must_use]
    pub fn position(&self, offset: u32) -> usize {
        let edits = self.edits[..self.len].iter();
        edits
            .take_while(|edit| edit.cut.start < offset)
            .fold(offset as usize, |at, edit| {
                at + edit.put.len() - edit.cut.len()
            })
    }

    /// Writes the result into `out` and returns its length; `None` where it
    /// does not fit, or is longer than any datagram.
    #[must_use]
    pub fn write(&self, bytes: &[u8], out: &mut [u8]) -> Option<usize> {
        let room = out.len().min(MAX_DATAGRAM);
        let out = &mut out[..room];
        let mut at = 0;
        let mut written = 0;
        let mut put = |piece: &[u8]| {
            let end = written + piece.len();
            out.get_mut(written..end)?.copy_from_slice(piece);
            written = end;
            Some(())
        };
        for edit in &self.edits[..self.len] {
            put(&bytes[at..edit.cut.start as usize])?;
            put(edit.put.of(&self.new))?;
            at = edit.cut.end as usize;
        }
        put(&bytes[at..])?;
        Some(written)
    }
}
