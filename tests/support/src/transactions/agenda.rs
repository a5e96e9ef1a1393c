//! What somebody means to do, and when.

/// In the order of time, and of setting where times are equal.
pub struct Agenda<T> {
    items: Vec<(u64, T)>,
}

impl<T: PartialEq> Agenda<T> {
    pub(super) fn new() -> Self {
        Self { items: Vec::new() }
    }

    pub fn set(&mut self, at: u64, item: T) {
        let place = self.items.partition_point(|(each, _)| *each <= at);
        self.items.insert(place, (at, item));
    }

    pub fn drop(&mut self, item: &T) {
        self.items.retain(|(_, each)| each != item);
    }

    pub fn clear(&mut self) {
        self.items.clear();
    }

    pub fn next(&self) -> Option<u64> {
        self.items.first().map(|(at, _)| *at)
    }

    pub fn take(&mut self, now: u64) -> Option<T> {
        (self.next()? <= now).then(|| self.items.remove(0).1)
    }
}
