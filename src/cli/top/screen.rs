//! What is on the screen, and what the keys do with it.

use std::time::Instant;

use ratatui::crossterm::event::KeyCode;

use super::rates::{DestinationRates, Rates, SetRates};
use crate::control::Status;
use crate::control::status::{DestinationStatus, SetStatus};

/// Everything that there is to show.
pub(super) struct Screen {
    /// Where the status comes from.
    pub(super) place: String,
    /// The latest one, with the rates since the one before.
    pub(super) latest: Option<(Status, Rates)>,
    /// When that came.
    pub(super) taken: Instant,
    /// Why there is no newer one.
    pub(super) trouble: Option<String>,
    pub(super) sort: Sort,
    /// The first line of the lists that is shown.
    pub(super) scroll: u16,
    /// How many of them there is room for.
    pub(super) page: u16,
    pub(super) paused: bool,
    pub(super) help: bool,
}

type Measure = fn(&DestinationStatus, &DestinationRates) -> f64;

/// What the destinations of a set can be sorted by.
const SORTS: [(&str, Measure); 5] = [
    ("as configured", |_, _| 0.0),
    ("requests", |_, rates| rates.requests_per_second),
    ("failures", |_, rates| rates.failures_per_second()),
    ("resent", |_, rates| rates.retransmitted.unwrap_or(0.0)),
    ("round trip", |status, _| {
        status.round_trip_ms.unwrap_or(0.0)
    }),
];

/// One of [`SORTS`].
#[derive(Clone, Copy, Default)]
pub(super) struct Sort(usize);

impl Sort {
    pub(super) fn name(self) -> &'static str {
        SORTS[self.0].0
    }

    fn next(self) -> Self {
        Self((self.0 + 1) % SORTS.len())
    }

    /// The destinations of a set by their index, the greatest first.
    pub(super) fn order(self, set: &SetStatus, rates: &SetRates) -> Vec<usize> {
        let (_, measure) = SORTS[self.0];
        let key = |index: usize| measure(&set.destinations[index], &rates.destinations[index]);
        let mut order: Vec<_> = (0..set.destinations.len()).collect();
        order.sort_by(|a, b| key(*b).total_cmp(&key(*a)));
        order
    }
}

impl DestinationRates {
    /// Responses of classes 4, 5 and 6.
    pub(super) fn failures_per_second(&self) -> f64 {
        let classes = ["4xx", "5xx", "6xx"].iter();
        classes
            .filter_map(|class| self.responses_per_second.get(*class))
            .sum()
    }
}

impl Screen {
    pub(super) fn new(place: String) -> Self {
        Self {
            place,
            latest: None,
            taken: Instant::now(),
            trouble: None,
            sort: Sort::default(),
            scroll: 0,
            page: 1,
            paused: false,
            help: false,
        }
    }

    /// Takes what came of a question.
    pub(super) fn take(&mut self, answer: Result<Status, String>) {
        if self.paused {
            return;
        }
        match answer {
            Ok(now) => {
                let before = self.latest.as_ref().map(|(status, _)| status);
                let rates = Rates::between(before, &now);
                self.latest = Some((now, rates));
                self.taken = Instant::now();
                self.trouble = None;
            }
            Err(error) => self.trouble = Some(error),
        }
    }

    /// Does what a key asks for; true where that is to end.
    pub(super) fn press(&mut self, key: KeyCode) -> bool {
        // Whatever is pressed, help has been read.
        let helped = std::mem::take(&mut self.help);
        match key {
            KeyCode::Char('q') => return true,
            KeyCode::Esc if !helped => return true,
            KeyCode::Char('?') => self.help = !helped,
            KeyCode::Char('p') => self.paused = !self.paused,
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Up => self.scroll = self.scroll.saturating_sub(1),
            KeyCode::Down => self.scroll = self.scroll.saturating_add(1),
            KeyCode::PageUp => self.scroll = self.scroll.saturating_sub(self.page),
            KeyCode::PageDown => self.scroll = self.scroll.saturating_add(self.page),
            KeyCode::Home => self.scroll = 0,
            KeyCode::End => self.scroll = u16::MAX,
            _ => {}
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::top::sample;

    #[test]
    fn while_paused_nothing_new_is_taken() {
        let mut screen = Screen::new(String::new());
        screen.take(Ok(sample::status()));
        assert!(!screen.press(KeyCode::Char('p')));
        screen.take(Err("gone".to_owned()));
        assert_eq!(screen.trouble, None);
        screen.press(KeyCode::Char('p'));
        screen.take(Err("gone".to_owned()));
        assert_eq!(screen.trouble.as_deref(), Some("gone"));
        assert!(screen.latest.is_some(), "what was known stays in sight");
        screen.take(Ok(sample::status()));
        assert_eq!(screen.trouble, None);
    }

    #[test]
    fn q_ends_it_and_escape_closes_the_help_first() {
        let mut screen = Screen::new(String::new());
        screen.press(KeyCode::Char('?'));
        assert!(screen.help);
        assert!(!screen.press(KeyCode::Esc));
        assert!(!screen.help);
        assert!(screen.press(KeyCode::Esc));
        assert!(screen.press(KeyCode::Char('q')));
    }

    #[test]
    fn destinations_are_sorted_within_their_set() {
        let mut status = sample::status();
        let destinations = &mut status.sets[0].destinations;
        destinations[1].requests += 1000;
        destinations[2].responses.insert("5xx".to_owned(), 1000);
        destinations[1].retransmitted += 1000;
        destinations[2].round_trip_ms = Some(9.0);
        let rates = Rates::between(None, &status);
        let mut sort = Sort::default();
        for (name, order) in [
            ("as configured", [0, 1, 2]),
            ("requests", [1, 0, 2]),
            ("failures", [2, 0, 1]),
            ("resent", [1, 0, 2]),
            ("round trip", [2, 0, 1]),
        ] {
            assert_eq!(sort.name(), name);
            assert_eq!(sort.order(&status.sets[0], &rates.sets[0]), order, "{name}");
            sort = sort.next();
        }
        assert_eq!(
            sort.name(),
            "as configured",
            "it comes back to where it began"
        );
    }
}
