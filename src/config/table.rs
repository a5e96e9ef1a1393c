//! Reading TOML tables key by key, with the place of every value.
//!
//! Deriving `Deserialize` would stop at the first error; here each value of
//! the wrong kind and each unknown key is noted in the [`Report`], and the
//! rest is read on.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::{Fault, Origin, Report, Source, UnknownKey, closest};

/// How the usual slips of syntax are mended, by what the parser says of them.
const HELP: [(&str, &str); 10] = [
    (
        "duplicate key",
        "keep one of them; each of several tables of a name has two brackets, as `[[set]]`",
    ),
    (
        "key with no value",
        "write `key = value`; a key has no spaces",
    ),
    (
        "table, expected",
        "a heading has its bracket again at the end: `[health]`, `[[set]]`",
    ),
    (
        "unclosed",
        "close it with `]`, or with `}` what `{` has opened",
    ),
    (
        "missing comma",
        "put a comma between the two; where the list ends before, close it with `]`",
    ),
    (
        "boolean",
        "write `true` or `false` in small letters, and text in quotes",
    ),
    ("must be quoted", QUOTE),
    ("float", QUOTE),
    ("escaped", ESCAPE),
    ("string", ESCAPE),
];
const ESCAPE: &str = "end text with the quote that began it; within `\"` write `\\\\` for `\\`";
const QUOTE: &str = "write text in quotes, as \"10.0.0.11:5060\"; a number, true and false have none, \
                     and nothing behind them";

/// One of [`HELP`], or what any line of a file is.
fn help(message: &str) -> &'static str {
    let known = HELP.iter().find(|(part, _)| message.contains(part));
    known.map_or(
        "a line is `key = value`, a heading as `[health]`, or a comment that begins with `#`",
        |(_, help)| help,
    )
}

/// A value and where it came from.
#[derive(Clone, Debug, Default)]
pub struct Placed<T> {
    /// The value.
    pub value: T,
    pub(super) origin: Origin,
}

impl<T> Placed<T> {
    pub(super) fn new(value: T, origin: Origin) -> Self {
        Self { value, origin }
    }

    /// Places what `flag` says, or the environment variable that stands for it.
    pub fn by_flag(flag: &'static str) -> impl Fn(T) -> Self {
        move |value| Self::new(value, Origin::Flag(flag))
    }
}

impl Placed<PathBuf> {
    /// The path; in a file, it is relative to the folder of that, `base`.
    pub(super) fn within(&self, base: &Path) -> PathBuf {
        match self.origin {
            Origin::File(..) => base.join(&self.value),
            Origin::Flag(_) | Origin::Nowhere => self.value.clone(),
        }
    }
}

/// A table from which keys are taken until only unknown ones are left.
pub(super) struct Section<'i> {
    /// As the operator would name it: `[[set]]`.
    kind: &'static str,
    pub(super) origin: Origin,
    source: Rc<Source>,
    table: DeTable<'i>,
    taken: Vec<&'static str>,
    /// Those of them that are written `[[key]]`.
    headings: Vec<&'static str>,
}

impl<'i> Section<'i> {
    /// Parses a document; syntax errors are noted.
    pub(super) fn document(source: &'i Rc<Source>, report: &mut Report) -> Option<Self> {
        let (document, mut errors) = DeTable::parse_recoverable(source.text());
        let failed = !errors.is_empty();
        let span = |error: &toml::de::Error| error.span().unwrap_or(0..0);
        errors.sort_by_key(|error| span(error).start);
        // Behind the first one of a line the parser stumbles over the rest.
        errors.dedup_by_key(|error| source.line(span(error).start));
        for error in errors {
            let origin = Origin::File(source.clone(), span(&error));
            let fault = Fault::new(error.message());
            report.error(&origin, fault.help(help(error.message())));
        }
        (!failed).then(|| Self {
            kind: "the top level",
            origin: Origin::File(source.clone(), document.span()),
            source: source.clone(),
            table: document.into_inner(),
            taken: Vec::new(),
            headings: Vec::new(),
        })
    }

    /// Whether a key is there.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Takes the value of a key, if it is there.
    pub(super) fn take(&mut self, key: &'static str) -> Option<Item<'i>> {
        self.taken.push(key);
        let value = self.table.remove(key)?;
        Some(Item::new(&self.source, value))
    }

    /// Takes the value of a key that must be there.
    pub(super) fn require(&mut self, key: &'static str, report: &mut Report) -> Option<Item<'i>> {
        let item = self.take(key);
        if item.is_none() {
            let fault = Fault::new(format!("{} has no `{key}`", self.kind));
            report.error(&self.origin, fault.help(format!("add `{key} = …`")));
        }
        item
    }

    /// Takes the value of a key that must be there unless a flag has `given` it.
    pub(super) fn take_or_require(
        &mut self,
        key: &'static str,
        given: bool,
        report: &mut Report,
    ) -> Option<Item<'i>> {
        match given {
            true => self.take(key),
            false => self.require(key, report),
        }
    }

    /// Takes the tables of `[[key]]`.
    pub(super) fn sections(
        &mut self,
        key: &'static str,
        kind: &'static str,
        report: &mut Report,
    ) -> Vec<Self> {
        self.headings.push(key);
        let item = self.take(key).filter(|item| {
            if item.is_table() {
                let help = format!("write `{kind}` with two brackets");
                report.error(&item.origin, item.mismatch("a list of tables").help(help));
            }
            !item.is_table()
        });
        if let Some(item) = &item {
            let help = format!("leave the key out, and write `{kind}` above each of its tables");
            item.refuse_empty(help, report);
        }
        let items = item.map(|item| item.list(report));
        let sections = items.into_iter().flatten();
        sections
            .filter_map(|item| item.section(kind, report))
            .collect()
    }

    /// Leaves the keys that nobody has taken to [`Section::finish_document`].
    pub(super) fn finish(self, report: &mut Report) {
        for (key, _) in self.table {
            let origin = Origin::File(self.source.clone(), key.span());
            let key = key.into_inner();
            let fault = Fault::new(format!("unknown key `{key}` in {}", self.kind));
            let misplaced = fault.clone();
            let misplaced = match (self.kind, &*key) {
                ("[[route]]", "policy" | "hash-key" | "health" | "when-all-down") => misplaced
                    .why("a route names a set, which has it")
                    .help(format!("move `{key}` into that [[set]]")),
                ("[[listener]]", "listen") => misplaced.help("did you mean `address`?"),
                _ => misplaced
                    .why(format!("in TOML, what follows {} belongs to it", self.kind))
                    .help(format!("move `{key}` above the first table")),
            };
            report.unknown.push(UnknownKey {
                origin,
                misplaced,
                misspelt: fault
                    .suggest(&key, &self.taken)
                    .or_help(|| format!("known keys are {}", self.taken.join(", "))),
                key: key.into_owned(),
            });
        }
    }

    /// Whether a key that nobody has taken is probably meant for this one.
    pub(super) fn misspells(&self, key: &str) -> bool {
        let mut left = self.table.keys();
        left.any(|left| closest(left.get_ref(), &self.taken) == Some(key))
    }

    /// Notes the keys that nobody has taken in the document and in its tables:
    /// one that the document has, in a table, is probably a slip of place.
    pub(super) fn finish_document(self, report: &mut Report) {
        let mut known = self.taken.clone();
        known.retain(|key| !self.headings.contains(key));
        self.finish(report);
        for unknown in std::mem::take(&mut report.unknown) {
            let fault = match known.contains(&&*unknown.key) {
                true => unknown.misplaced,
                false => unknown.misspelt,
            };
            report.error(&unknown.origin, fault);
        }
    }
}

/// One value.
pub(super) struct Item<'i> {
    source: Rc<Source>,
    value: DeValue<'i>,
    pub(super) origin: Origin,
}

impl<'i> Item<'i> {
    fn new(source: &Rc<Source>, value: Spanned<DeValue<'i>>) -> Self {
        Self {
            source: source.clone(),
            origin: Origin::File(source.clone(), value.span()),
            value: value.into_inner(),
        }
    }

    pub(super) fn is_table(&self) -> bool {
        self.value.is_table()
    }

    /// The string, read by `parser`.
    pub(super) fn parse<T>(
        self,
        parser: impl Fn(&str) -> Result<T, Fault>,
        report: &mut Report,
    ) -> Option<Placed<T>> {
        match &self.value {
            DeValue::String(text) => {
                let value = report.check(&self.origin, parser(text))?;
                Some(Placed::new(value, self.origin))
            }
            DeValue::Integer(number) => {
                let number = number.as_str();
                let times = ["ms", "s"].map(|unit| format!("{number}{unit}"));
                let good = times.iter().filter(|time| parser(time).is_ok());
                let good: Vec<_> = good.map(|time| format!("\"{time}\"")).collect();
                let help = match parser(number) {
                    _ if self.origin.is_private() => "write it in quotes".to_owned(),
                    Ok(_) => format!("write it in quotes: \"{number}\""),
                    Err(_) if !good.is_empty() => {
                        let good = good.join(" or ");
                        format!("write it with its unit and in quotes: {good}")
                    }
                    // In quotes it would be refused too.
                    Err(fault) => {
                        report.error(&self.origin, fault);
                        return None;
                    }
                };
                self.wrong_kind("a string", &help, report)
            }
            _ => self.wrong_kind("a string", "write it in quotes", report),
        }
    }

    /// The string, or the number as if it had been written in quotes.
    pub(super) fn parse_number_or_string<T>(
        self,
        parser: impl Fn(&str) -> Result<T, Fault>,
        report: &mut Report,
    ) -> Option<Placed<T>> {
        let DeValue::Integer(number) = &self.value else {
            return self.parse(parser, report);
        };
        let text = match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => number.to_string(),
            Err(_) => number.as_str().to_owned(),
        };
        let value = report.check(&self.origin, parser(&text))?;
        Some(Placed::new(value, self.origin))
    }

    /// The string, which must not be empty, and can be printed as it is.
    pub(super) fn text(self, report: &mut Report) -> Option<Placed<String>> {
        let parser = |text: &str| match text {
            "" => Err(Fault::new("the text is empty")),
            text if text.contains(char::is_control) => {
                let fault = Fault::new("the text has control characters in it");
                Err(fault.help("leave them out"))
            }
            text => Ok(text.to_owned()),
        };
        self.parse(parser, report)
    }

    /// The path.
    pub(super) fn path(self, report: &mut Report) -> Option<Placed<PathBuf>> {
        let text = self.text(report)?;
        Some(Placed::new(text.value.into(), text.origin))
    }

    /// The integer, if it lies within `range`.
    pub(super) fn integer<T>(
        self,
        range: RangeInclusive<T>,
        report: &mut Report,
    ) -> Option<Placed<T>>
    where
        T: TryFrom<i64> + PartialOrd + Display,
    {
        let help = format!("give {} to {}", range.start(), range.end());
        self.integer_or(range, &help, report)
    }

    /// The same; `help` says what to give where it does not.
    pub(super) fn integer_or<T>(
        self,
        range: RangeInclusive<T>,
        help: &str,
        report: &mut Report,
    ) -> Option<Placed<T>>
    where
        T: TryFrom<i64> + PartialOrd,
    {
        let number = match &self.value {
            DeValue::Integer(number) => number,
            DeValue::String(digits) if digits.parse::<i64>().is_ok() => {
                let fault = self.mismatch("an integer");
                let help = format!("leave out the quotes: {digits}");
                report.error(&self.origin, fault.help(help));
                return None;
            }
            _ => return self.wrong_kind("an integer", "write digits alone", report),
        };
        let value = i64::from_str_radix(number.as_str(), number.radix()).ok();
        let value = value.and_then(|value| T::try_from(value).ok());
        let within = value.filter(|value| range.contains(value));
        if within.is_none() {
            let fault = Fault::new(format!("{} is out of range", number.as_str()));
            report.error(&self.origin, fault.help(help));
        }
        Some(Placed::new(within?, self.origin))
    }

    /// `true` or `false`, or as a flag says it, `"on"` or `"off"`.
    pub(super) fn boolean(self, report: &mut Report) -> Option<bool> {
        match &self.value {
            DeValue::Boolean(value) => Some(*value),
            DeValue::String(text) if text == "on" => Some(true),
            DeValue::String(text) if text == "off" => Some(false),
            _ => self.wrong_kind("true or false", "give \"on\" or \"off\"", report),
        }
    }

    /// The elements of an array.
    pub(super) fn list(self, report: &mut Report) -> Vec<Self> {
        match self.value {
            DeValue::Array(array) => {
                let item = |value| Item::new(&self.source, value);
                array.into_iter().map(item).collect()
            }
            _ => {
                let help = "write its values in brackets: [\"…\", \"…\"]";
                self.wrong_kind("a list", help, report).unwrap_or_default()
            }
        }
    }

    /// The elements of an array, or the one string or number that stands for
    /// it.
    pub(super) fn any_number(self, report: &mut Report) -> Vec<Self> {
        match self.value.is_str() || self.value.is_integer() {
            true => vec![self],
            false => self.list(report),
        }
    }

    /// The same; an empty array is an error.
    pub(super) fn one_or_many(self, report: &mut Report) -> Vec<Self> {
        self.refuse_empty("leave the key out, or give a value", report);
        self.any_number(report)
    }

    fn refuse_empty(&self, help: impl Into<String>, report: &mut Report) {
        if self.value.as_array().is_some_and(|array| array.is_empty()) {
            report.error(&self.origin, Fault::new("the list is empty").help(help));
        }
    }

    /// Each element of a list, or the one string, read by `parser`.
    pub(super) fn parse_all<T>(
        self,
        parser: impl Fn(&str) -> Result<T, Fault>,
        report: &mut Report,
    ) -> Vec<Placed<T>> {
        let items = self.one_or_many(report).into_iter();
        items
            .filter_map(|item| item.parse(&parser, report))
            .collect()
    }

    /// The table.
    pub(super) fn section(self, kind: &'static str, report: &mut Report) -> Option<Section<'i>> {
        match self.value {
            DeValue::Table(table) => Some(Section {
                kind,
                origin: self.origin,
                source: self.source,
                table,
                taken: Vec::new(),
                headings: Vec::new(),
            }),
            _ => self.wrong_kind("a table", "write it in braces: { key = \"…\" }", report),
        }
    }

    fn wrong_kind<T>(&self, wanted: &str, help: &str, report: &mut Report) -> Option<T> {
        report.error(&self.origin, self.mismatch(wanted).help(help));
        None
    }

    fn mismatch(&self, wanted: &str) -> Fault {
        let found = self.value.type_str();
        Fault::new(format!("expected {wanted}, found {found}"))
    }
}
