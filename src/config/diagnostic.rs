//! What is wrong with a configuration, told so that it can be mended.
//!
//! A [`Fault`] says what, why and how to mend; an [`Origin`] says where the
//! value came from; a [`Report`] joins the two into [`Diagnostic`]s. Nothing
//! is printed here: the command line does that.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// What stands between what is wrong and how to mend it, where both are told.
pub const HELP: &str = "\n  help: ";

/// What is wrong with one value, without a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    what: String,
    why: Option<String>,
    help: Option<String>,
}

impl Fault {
    /// A fault that says only what is wrong.
    pub fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            why: None,
            help: None,
        }
    }

    /// Adds why it is wrong.
    pub fn why(self, why: impl Into<String>) -> Self {
        Self {
            why: Some(why.into()),
            ..self
        }
    }

    /// Adds how to mend it.
    pub fn help(self, help: impl Into<String>) -> Self {
        Self {
            help: Some(help.into()),
            ..self
        }
    }

    /// Adds the closest of `known` as help, where one is close to `given`.
    pub(super) fn suggest(self, given: &str, known: &[&str]) -> Self {
        match closest(given, known) {
            Some(name) => self.help(format!("did you mean `{name}`?")),
            None => self,
        }
    }

    /// Adds a help text only where there is none yet.
    pub(super) fn or_help(self, help: impl FnOnce() -> String) -> Self {
        if self.help.is_some() {
            self
        } else {
            self.help(help())
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(why) = &self.why {
            write!(f, ": {why}")?;
        }
        if let Some(help) = &self.help {
            write!(f, "{HELP}{help}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}

/// The entry of `known` that `given` is most likely a slip of.
#[must_use]
pub fn closest<'k>(given: &str, known: &[&'k str]) -> Option<&'k str> {
    let given = given.to_lowercase();
    let (distance, name) = known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(&given, name), *name))
        .min()?;
    (distance <= name.len().max(given.len()) / 3).then_some(name)
}

/// A text with a name, in which places are found.
#[derive(Debug)]
pub(super) struct Source {
    name: String,
    text: String,
    line_starts: Vec<usize>,
    /// Where those lines begin that are not to be shown.
    private: Vec<usize>,
}

impl Source {
    /// Takes the text of the file `name`, without the mark that some editors
    /// put before it.
    pub(super) fn new(name: &Path, mut text: String) -> Rc<Self> {
        if text.starts_with('\u{feff}') {
            text.drain(..'\u{feff}'.len_utf8());
        }
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let line_starts = std::iter::once(0).chain(newlines.map(|(at, _)| at + 1));
        let line_starts: Vec<_> = line_starts.collect();
        Rc::new(Self {
            name: name.display().to_string(),
            private: private(&text, &line_starts),
            line_starts,
            text,
        })
    }

    /// The text as read.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The number of the line that this octet is in, from 1.
    pub(super) fn line(&self, at: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= at)
    }

    /// Where the octets of `span` are. A long line may have thousands of such
    /// places: its text is shared with the `last` one, and counted from there.
    fn locate(&self, span: &Range<usize>, last: Option<&Location>) -> Location {
        let line = self.line(span.start);
        let start = self.line_starts[line - 1];
        let end = self.line_starts.get(line).copied();
        let text = &self.text[start..end.unwrap_or(self.text.len())];
        let text = match text.strip_suffix('\n') {
            Some(line) => line.strip_suffix('\r').unwrap_or(line),
            None => text,
        };
        let to = |at: usize| text.ceil_char_boundary(at.saturating_sub(start));
        let meant = text.get(to(span.start)..to(span.end)).unwrap_or_default();
        let last = last.filter(|last| last.line == line && last.file == self.name);
        let at = to(span.start);
        let (from, column) = match last {
            Some(last) if last.at <= at => (last.at, last.column),
            _ => (0, 1),
        };
        Location {
            file: self.name.clone(),
            line,
            column: column + text[from..at].chars().count(),
            length: meant.chars().count().max(1),
            text: match last {
                Some(last) => last.text.clone(),
                None if self.hides(span.start) => "".into(),
                None => text.into(),
            },
            at,
        }
    }

    /// Whether the line that this octet is in is not to be shown.
    fn hides(&self, at: usize) -> bool {
        self.private.contains(&self.line_starts[self.line(at) - 1])
    }
}

/// Where lines begin that may hold the key of the mirror, which no log is to
/// keep. The text need not be TOML.
fn private(text: &str, line_starts: &[usize]) -> Vec<usize> {
    let mut in_mirror = false;
    let is_private = |start: &usize| {
        let line = text[*start..].lines().next().unwrap_or_default().trim();
        let name = line.split(['=', '.', ']']).next().unwrap_or_default();
        let name = name.trim_matches([' ', '\t', '"', '\'', '[', ']']);
        if line.starts_with('[') {
            in_mirror = name == "mirror";
        }
        in_mirror || name == "mirror" || name == "key"
    };
    line_starts.iter().copied().filter(is_private).collect()
}

/// Where a value came from.
#[derive(Clone, Debug, Default)]
pub(super) enum Origin {
    /// These octets of a file.
    File(Rc<Source>, Range<usize>),
    /// A flag, or the environment variable that stands for it.
    Flag(&'static str),
    /// Nowhere: something that is missing altogether.
    #[default]
    Nowhere,
}

impl Origin {
    /// Whether the value is not to be shown.
    pub(super) fn is_private(&self) -> bool {
        matches!(self, Self::File(source, span) if source.hides(span.start))
    }
}

/// A place in a file, as people count: from 1, in characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "program", derive(utoipa::ToSchema))]
pub struct Location {
    /// The file as it was named.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Characters concerned, within the line; at least 1.
    pub length: usize,
    /// The line itself; empty where it is not to be shown.
    #[serde(skip)]
    pub text: Arc<str>,
    /// How many octets of the line are before the place.
    #[serde(skip)]
    pub at: usize,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "program", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// There is no configuration to run with.
    Error,
    /// It runs, but perhaps not as meant.
    Warning,
}

/// One thing to tell the operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "program", derive(utoipa::ToSchema))]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// The place, where a file is concerned.
    #[serde(flatten)]
    pub location: Option<Location>,
    /// The flag, where one is concerned: `--to`.
    pub flag: Option<String>,
    /// What is wrong.
    pub message: String,
    /// Why that is wrong.
    pub why: Option<String>,
    /// How to mend it.
    pub help: Option<String>,
}

/// One line, as compilers write: `file:line:column: severity: what`.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(at) = &self.location {
            write!(f, "{}:{}:{}: ", at.file, at.line, at.column)?;
        }
        if let Some(flag) = &self.flag {
            write!(f, "{flag}: ")?;
        }
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{severity}: {}", self.message)
    }
}

/// A key that its table does not have, and what is wrong where the document
/// has it, and where it does not.
#[derive(Debug)]
pub(super) struct UnknownKey {
    pub(super) origin: Origin,
    pub(super) key: String,
    pub(super) misplaced: Fault,
    pub(super) misspelt: Fault,
}

/// Collects diagnostics while a configuration is built.
#[derive(Debug, Default)]
pub(super) struct Report {
    diagnostics: Vec<Diagnostic>,
    /// Those of tables, until all keys of the document are known.
    pub(super) unknown: Vec<UnknownKey>,
    /// Kinds of table of which one was too faulty to be read on.
    pub(super) lacking: Vec<&'static str>,
}

impl Report {
    /// Notes something that forbids to run.
    pub(super) fn error(&mut self, origin: &Origin, fault: Fault) {
        self.push(Severity::Error, origin, fault);
    }

    /// Notes something that is probably not meant.
    pub(super) fn warning(&mut self, origin: &Origin, fault: Fault) {
        self.push(Severity::Warning, origin, fault);
    }

    /// Passes a good value on, notes a fault.
    pub(super) fn check<T>(&mut self, origin: &Origin, result: Result<T, Fault>) -> Option<T> {
        result.map_err(|fault| self.error(origin, fault)).ok()
    }

    /// Passes a table of this `kind` on, notes that there was one more.
    pub(super) fn or_lacking<T>(&mut self, kind: &'static str, table: Option<T>) -> Option<T> {
        if table.is_none() {
            self.lacking.push(kind);
        }
        table
    }

    /// Whether a table of this kind is missing among those that were read, so
    /// that what is not among them may yet be there.
    pub(super) fn lacks(&self, kind: &str) -> bool {
        self.lacking.contains(&kind)
    }

    /// As [`Self::check`], of a name that a table of this `kind` should have.
    pub(super) fn check_name<T>(
        &mut self,
        kind: &str,
        origin: &Origin,
        found: Result<T, Fault>,
    ) -> Option<T> {
        match self.lacks(kind) {
            true => found.ok(),
            false => self.check(origin, found),
        }
    }

    /// How many errors have been noted.
    pub(super) fn errors(&self) -> usize {
        let error = |d: &&Diagnostic| d.severity == Severity::Error;
        self.diagnostics.iter().filter(error).count()
    }

    /// The diagnostics in the order of the text; those without a place last.
    pub(super) fn into_diagnostics(self) -> Vec<Diagnostic> {
        let mut diagnostics = self.diagnostics;
        diagnostics.sort_by(|a, b| match (&a.location, &b.location) {
            (Some(a), Some(b)) => (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)),
            (a, b) => a.is_none().cmp(&b.is_none()),
        });
        diagnostics
    }

    fn push(&mut self, severity: Severity, origin: &Origin, fault: Fault) {
        let (location, flag) = match origin {
            Origin::File(source, span) => {
                let last = self.diagnostics.last();
                let last = last.and_then(|last| last.location.as_ref());
                (Some(source.locate(span, last)), None)
            }
            Origin::Flag(flag) => (None, Some(*flag)),
            Origin::Nowhere => (None, None),
        };
        self.diagnostics.push(Diagnostic {
            severity,
            location,
            flag: flag.map(str::to_owned),
            message: fault.what,
            why: fault.why,
            help: fault.help,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_places_of_a_line_share_its_text() {
        let text = "é = [\"ü\", 2]\r\nlast".to_owned();
        let source = Source::new(Path::new("v.toml"), text);
        let mut report = Report::default();
        for span in [12..13, 6..10, 12..13, 16..99] {
            let fault = Fault::new("a fault");
            report.error(&Origin::File(source.clone(), span), fault);
        }
        let all = report.into_diagnostics().into_iter();
        let all: Vec<_> = all.filter_map(|each| each.location).collect();
        let places = all
            .iter()
            .map(|at| (at.line, at.column, at.length, &*at.text));
        let places: Vec<_> = places.collect();
        let first = "é = [\"ü\", 2]";
        assert_eq!(
            places,
            [
                (1, 6, 3, first),
                (1, 11, 1, first),
                (1, 11, 1, first),
                (2, 1, 4, "last")
            ]
        );
        assert!(Arc::ptr_eq(&all[0].text, &all[1].text));
    }
}
