//! Numbers as people read them.

/// A rate: with a decimal where it is small.
pub(super) fn rate(rate: f64) -> String {
    if rate == 0.0 {
        "0".to_owned()
    } else if rate < 9.95 {
        format!("{rate:.1}")
    } else {
        count(rate.round() as u64)
    }
}

/// A count, its thousands apart.
pub(super) fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A part of a whole.
pub(super) fn percent(part: Option<f64>) -> String {
    part.map_or_else(
        || "-".to_owned(),
        |part| match part * 100.0 {
            percent if percent > 0.0 && percent < 9.95 => format!("{percent:.1} %"),
            percent => format!("{percent:.0} %"),
        },
    )
}

/// A time in milliseconds.
pub(super) fn milliseconds(time: Option<f64>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| format!("{time:.2} ms"))
}

/// How long ago, or for how long, in the unit that suits; `-`: never.
pub(super) fn age(seconds: Option<u64>) -> String {
    match seconds {
        None => "-".to_owned(),
        Some(seconds @ ..120) => format!("{seconds} s"),
        Some(seconds @ ..7_200) => format!("{} min", seconds / 60),
        Some(seconds @ ..172_800) => format!("{} h", seconds / 3_600),
        Some(seconds) => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_precise_as_they_matter() {
        assert_eq!([rate(0.0), rate(0.04), rate(9.94)], ["0", "0.0", "9.9"]);
        assert_eq!([rate(9.96), rate(1234.5)], ["10", "1,235"]);
        assert_eq!([count(999), count(1_000_000)], ["999", "1,000,000"]);
        assert_eq!(percent(Some(0.012)), "1.2 %");
        assert_eq!(percent(Some(0.333)), "33 %");
        assert_eq!([percent(Some(0.0)), percent(None)], ["0 %", "-"]);
    }

    #[test]
    fn ages_have_the_unit_that_suits() {
        let ages = [None, Some(119), Some(120), Some(7_200), Some(172_800)].map(age);
        assert_eq!(ages, ["-", "119 s", "2 min", "2 h", "2 d"]);
    }
}
