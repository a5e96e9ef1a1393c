//! Kamailio's `dispatcher.list`, read as Kamailio reads it.
//!
//! One destination a line: `setid URI [flags [priority [attributes]]]`. The
//! order of the file is kept. What Viaduct has no use for is accepted with a
//! warning; what it cannot do (TCP, TLS) is an error, but not in a set that is
//! not wanted: Kamailio may have another use for that one.

use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

use super::diagnostic::{Fault, Origin, Report, Source};
use super::member::{Member, split_member, transport};
use super::operation::text::sip_uri;
use super::table::Placed;
use super::text;
use super::{HealthSettings, State};

/// What Kamailio's reader takes of a line at once, in octets.
const LINE_LIMIT: usize = 1023;
/// Flag bits: inactive (1) and disabled (4) take no work, no ping (32) is not
/// probed; trying (2), probing (8) and no DNS (16) change nothing here. None
/// means that a destination drains.
const FLAG_INACTIVE: u32 = 1;
const FLAG_DISABLED: u32 = 4;
const FLAG_NO_PING: u32 = 32;
const FLAGS_KNOWN: u32 = 63;

/// A file, its lines by set in the order of the file.
pub(super) struct List {
    source: Rc<Source>,
    sets: BTreeMap<u32, Vec<Range<usize>>>,
    /// Whether it is known of each line whose it is.
    pub(super) is_whole: bool,
}

/// Whether a text is a `dispatcher.list` rather than TOML: its first entry
/// begins with a number and a SIP URI.
pub(super) fn looks_like(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim_start);
    let Some(line) = lines.find(|line| !line.is_empty() && !line.starts_with('#')) else {
        return false;
    };
    let mut fields = line.split_whitespace();
    let number = fields.next().is_some_and(|set| set.parse::<u32>().is_ok());
    let scheme = fields.next().and_then(|uri| uri.split_once(':'));
    number
        && scheme
            .is_some_and(|(s, _)| s.eq_ignore_ascii_case("sip") || s.eq_ignore_ascii_case("sips"))
}

impl List {
    /// Sorts the lines by set. What is wrong with those of one set is for who
    /// wants it.
    pub(super) fn new(source: Rc<Source>, report: &mut Report) -> Self {
        let mut sets: BTreeMap<u32, Vec<Range<usize>>> = BTreeMap::new();
        let faults = report.errors();
        let mut start = 0;
        for line in source.text().split_inclusive('\n') {
            let whole = start..start + line.trim_end().len();
            start += line.len();
            if line.trim_end_matches(['\r', '\n']).len() > LINE_LIMIT {
                let fault = Fault::new(format!("the line is longer than {LINE_LIMIT} octets"))
                    .why("Kamailio would read the rest of it as another line");
                report.warning(&Origin::File(source.clone(), whole.clone()), fault);
            }
            if let Some(line) = Line::new(&source, &whole)
                && let Some(set) = line.set(report)
            {
                sets.entry(set).or_default().push(whole);
            }
        }
        Self {
            source,
            sets,
            is_whole: report.errors() == faults,
        }
    }

    /// The ids of its sets.
    pub(super) fn ids(&self) -> impl Iterator<Item = u32> {
        self.sets.keys().copied()
    }

    /// The members of a set; `None`: there is no such set.
    pub(super) fn members(&self, set: u32, report: &mut Report) -> Option<Vec<Placed<Member>>> {
        let lines = self.sets.get(&set)?.iter();
        let lines = lines.filter_map(|whole| Line::new(&self.source, whole));
        Some(lines.filter_map(|line| line.member(report)).collect())
    }
}

/// A field and its place in the text.
type Field<'t> = (&'t str, Range<usize>);

/// The fields of a line up to a comment, which begins at a field or within
/// the URI.
fn fields(line: &str, start: usize) -> Vec<Field<'_>> {
    let mut fields: Vec<Field<'_>> = Vec::new();
    for field in line.split_whitespace() {
        let at = start + (field.as_ptr() as usize - line.as_ptr() as usize);
        let comment = field.find('#').filter(|at| *at == 0 || fields.len() == 1);
        let field = &field[..comment.unwrap_or(field.len())];
        if !field.is_empty() {
            fields.push((field, at..at + field.len()));
        }
        if comment.is_some() {
            break;
        }
    }
    fields
}

struct Line<'t> {
    source: &'t Rc<Source>,
    whole: Range<usize>,
    fields: Vec<Field<'t>>,
}

impl<'t> Line<'t> {
    /// `None` where there is nothing but a comment.
    fn new(source: &'t Rc<Source>, whole: &Range<usize>) -> Option<Self> {
        let fields = fields(&source.text()[whole.clone()], whole.start);
        (!fields.is_empty()).then_some(Self {
            source,
            whole: whole.clone(),
            fields,
        })
    }

    fn at(&self, place: &Range<usize>) -> Origin {
        Origin::File(self.source.clone(), place.clone())
    }

    fn set(&self, report: &mut Report) -> Option<u32> {
        self.field(0, report, |text| {
            let fault = |_| Fault::new(format!("`{text}` is not a set id")).help("give a number");
            text.parse::<u32>().map_err(fault)
        })
    }

    fn member(&self, report: &mut Report) -> Option<Placed<Member>> {
        let Some((uri, place)) = self.fields.get(1) else {
            let fault = Fault::new("the line has no URI");
            report.error(
                &self.at(&self.whole),
                fault.help("write `setid sip:host:port [flags [priority [attributes]]]`"),
            );
            return None;
        };
        let origin = self.at(place);
        let member = self.uri(uri, &origin, report);
        let flags = self.field(2, report, flags).unwrap_or(0);
        self.notice_inactive(flags, report);
        let priority = self.field(3, report, text::priority);
        self.notice_negative(priority, report);
        let disabled = flags & (FLAG_INACTIVE | FLAG_DISABLED) != 0;
        let (weight, from) = self.attributes(disabled, report);
        for (extra, place) in self.fields.iter().skip(5) {
            let fault = Fault::new(format!("`{extra}` is ignored"));
            report.warning(&self.at(place), fault.why("attributes hold no blanks"));
        }
        let member = Member {
            state: match weight {
                _ if disabled => Some(State::Disabled),
                Some(0) => Some(State::Draining),
                _ => None,
            },
            priority,
            weight: weight.filter(|weight| *weight != 0),
            health: HealthSettings {
                probe: (flags & FLAG_NO_PING != 0).then_some(false),
                from,
                ..HealthSettings::default()
            },
            ..member?
        };
        Some(Placed::new(member, origin))
    }

    /// Kamailio has what is inactive back once it answers a ping.
    fn notice_inactive(&self, flags: u32, report: &mut Report) {
        let bits = FLAG_INACTIVE | FLAG_DISABLED | FLAG_NO_PING;
        let (Some((_, place)), FLAG_INACTIVE) = (self.fields.get(2), flags & bits) else {
            return;
        };
        let fault = Fault::new("flag 1 is taken for `state=disabled`: no work")
            .why("Kamailio brings an inactive destination in once it answers a ping")
            .help("leave flag 1 out, or set flag 4, so that Kamailio and Viaduct both keep it out");
        report.warning(&self.at(place), fault);
    }

    /// Kamailio takes a priority below 0 for an attribute; nobody means that.
    fn notice_negative(&self, priority: Option<i32>, report: &mut Report) {
        let (Some((text, place)), Some(..0)) = (self.fields.get(3), priority) else {
            return;
        };
        let fault = Fault::new(format!("Kamailio takes `{text}` for an attribute"))
            .why("it reads no priority below 0; here it counts")
            .help("give 0 or more for both to do the same");
        report.warning(&self.at(place), fault);
    }

    /// Reads a field; `None` where it is missing or wrong.
    fn field<T>(
        &self,
        index: usize,
        report: &mut Report,
        parser: impl FnOnce(&'t str) -> Result<T, Fault>,
    ) -> Option<T> {
        let (text, place) = self.fields.get(index)?;
        report.check(&self.at(place), parser(text))
    }

    /// The URI; of its parameters only `transport` counts.
    fn uri(&self, uri: &str, origin: &Origin, report: &mut Report) -> Option<Member> {
        let (host, parameters) = report.check(origin, split_member(uri))?;
        let mut good = true;
        for parameter in parameters {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            if name.eq_ignore_ascii_case("transport") {
                good &= report.check(origin, transport(value)).is_some();
            } else if !name.eq_ignore_ascii_case("lr") {
                let fault = Fault::new(format!("the URI parameter `{name}` is ignored"));
                report.warning(origin, fault.help("weights are attributes: `weight=2`"));
            }
        }
        good.then(|| Member::at(uri, host))
    }

    /// The weight and the From of probes among the attributes; the others are
    /// named in warnings.
    fn attributes(&self, disabled: bool, report: &mut Report) -> (Option<u32>, Option<String>) {
        let Some((attributes, place)) = self.fields.get(4) else {
            return (None, None);
        };
        let origin = self.at(place);
        let (mut weight, mut relative, mut from) = (None, None, None);
        for attribute in attributes
            .split(';')
            .filter(|attribute| !attribute.is_empty())
        {
            let (name, value) = attribute.split_once('=').unwrap_or((attribute, ""));
            match name {
                "weight" => weight = report.check(&origin, weight_or_none(value)),
                "rweight" => relative = report.check(&origin, weight_or_none(value)),
                "ping_from" => from = report.check(&origin, sip_uri(value)),
                _ => {
                    let fault = Fault::new(format!("the attribute `{name}` is ignored"));
                    let fault = match name {
                        "socket" | "sockname" => fault
                            .why("the listener says from where requests leave")
                            .help("name the destination in the `egress` of a [[listener]]"),
                        _ => fault.why("Viaduct has no use for it"),
                    };
                    report.warning(&origin, fault);
                }
            }
        }
        let used = weight.map(|weight| ("weight", weight, 9));
        let used = used.or_else(|| Some(("rweight", relative?, 11)));
        if let Some((name, 0, algorithm)) = used.filter(|_| !disabled) {
            let what = format!("{name}=0 is taken for `state=draining`: no new calls");
            let why = format!(
                "Kamailio's algorithm {algorithm} gives it none; others do not go by the {name}"
            );
            let help = "leave it out where it is to have calls";
            report.warning(&origin, Fault::new(what).why(why).help(help));
        }
        if let (Some(weight), Some(relative)) = (weight, relative)
            && weight != relative
        {
            let fault = Fault::new(format!(
                "weight={weight} is used, rweight={relative} is not"
            ));
            report.warning(&origin, fault.why("a destination has one weight"));
        }
        (weight.or(relative), from)
    }
}

/// A weight, or 0: Kamailio gives it no calls.
fn weight_or_none(text: &str) -> Result<u32, Fault> {
    let help = "give 1 to 1000000, or 0 for no new calls";
    match text {
        "0" => Ok(0),
        text => text::weight(text).map_err(|fault| fault.help(help)),
    }
}

/// The flags. Bits that nobody has given a meaning are refused: they could mean
/// that the destination is to take no work.
fn flags(text: &str) -> Result<u32, Fault> {
    let number = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    let number = number.ok().filter(|flags| flags & !FLAGS_KNOWN == 0);
    let fault =
        || Fault::new(format!("`{text}` are no flags")).help("give 0 to 63, or 0x0 to 0x3f");
    number.ok_or_else(fault)
}
