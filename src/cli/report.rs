//! Diagnostics as people read them: place, excerpt, why, and how to mend.

use std::io::{self, Write};

use anstream::AutoStream;
use anstream::adapter::strip_str;
use clap::builder::styling::{AnsiColor, Style};

use crate::config::text::printable;
use crate::config::{Diagnostic, Location, Severity};

/// Widest excerpt of a line, in characters.
const EXCERPT: usize = 100;

/// Prints diagnostics to stderr, in colour where that is shown.
pub(super) fn print(diagnostics: &[Diagnostic]) -> io::Result<()> {
    let mut out = AutoStream::auto(io::stderr().lock());
    let mut all = diagnostics.iter();
    read_or_not(all.try_for_each(|diagnostic| print_one(&mut out, diagnostic)))
}

/// Prints how many there were, where there were several.
pub(super) fn print_number(diagnostics: &[Diagnostic]) -> io::Result<()> {
    if diagnostics.len() < 2 {
        return Ok(());
    }
    let number = |severity, name: &str| {
        let all = diagnostics.iter().filter(|each| each.severity == severity);
        match all.count() {
            0 => None,
            1 => Some(format!("1 {name}")),
            all => Some(format!("{all} {name}s")),
        }
    };
    let numbers = [
        number(Severity::Error, "error"),
        number(Severity::Warning, "warning"),
    ];
    let numbers: Vec<_> = numbers.into_iter().flatten().collect();
    read_or_not(writeln!(io::stderr(), "{}", numbers.join(", ")))
}

/// What came of printing a verdict: that its reader has gone, as `head` does,
/// changes nothing about it.
pub(super) fn read_or_not(printed: io::Result<()>) -> io::Result<()> {
    match printed {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}

/// The same without colour, as text.
pub(super) fn plain(diagnostic: &Diagnostic) -> String {
    let mut out = Vec::new();
    print_one(&mut out, diagnostic).expect("invariant: writing to a Vec does not fail");
    strip_str(&String::from_utf8_lossy(&out)).to_string()
}

fn print_one(out: &mut impl Write, diagnostic: &Diagnostic) -> io::Result<()> {
    let bold = Style::new().bold();
    let dim = AnsiColor::Blue.on_default();
    let severity = match diagnostic.severity {
        Severity::Error => AnsiColor::Red.on_default().bold(),
        Severity::Warning => AnsiColor::Yellow.on_default().bold(),
    };
    let help = AnsiColor::Green.on_default();

    let line = printable(&diagnostic.to_string());
    writeln!(out, "{bold}{line}{bold:#}")?;
    // Over the API there is the place alone, without its line.
    let shown = |at: &&Location| !at.text.is_empty();
    if let Some(at) = diagnostic.location.as_ref().filter(shown) {
        let (excerpt, indent, carets) = excerpt(at);
        let number = at.line.to_string();
        let margin = " ".repeat(number.len());
        writeln!(out, "{dim}{number} |{dim:#} {excerpt}")?;
        writeln!(
            out,
            "{dim}{margin} |{dim:#} {indent}{severity}{carets}{severity:#}"
        )?;
    }
    if let Some(why) = &diagnostic.why {
        writeln!(out, "  why: {}", printable(why))?;
    }
    if let Some(text) = &diagnostic.help {
        writeln!(out, "  {help}help{help:#}: {}", printable(text))?;
    }
    Ok(())
}

/// The part of the line around the place, and the carets under it.
fn excerpt(at: &Location) -> (String, String, String) {
    let before = at.column - 1;
    let fits = before < EXCERPT / 2 || at.text.chars().nth(EXCERPT).is_none();
    let indent = if fits { before } else { EXCERPT / 4 };
    let back = at.text[..at.at].char_indices().rev().take(indent);
    let start = back.last().map_or(at.at, |(start, _)| start);
    let shown: String = at.text[start..].chars().take(EXCERPT).collect();
    let room = EXCERPT.saturating_sub(indent).max(1);
    (
        printable(&shown),
        " ".repeat(indent),
        "^".repeat(at.length.min(room)),
    )
}
